//! Prometheus' text format, version 0.0.4.

use std::fmt::{self, Write as _};

/// What kind of number it is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Collects the text.
pub(super) struct Exposition {
    pub(super) text: String,
}

pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Begins a metric.
    pub(super) fn metric(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
    ) -> Result<Metric<'_>, fmt::Error> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        writeln!(self.text, "# HELP {name} {help}")?;
        writeln!(self.text, "# TYPE {name} {kind}")?;
        Ok(Metric {
            text: &mut self.text,
            name: name.to_owned(),
        })
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, Kind::Counter, help)?.sample(&[], value)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, Kind::Gauge, help)?.sample(&[], value)
    }
}

/// A metric that samples are added to.
pub(super) struct Metric<'a> {
    text: &'a mut String,
    name: String,
}

impl Metric<'_> {
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: u64) -> fmt::Result {
        self.text.push_str(&self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            write!(self.text, "{before}{label}=\"{value}\"")?;
        }
        let after = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{after} {value}")
    }
}

/// A metric without labels: name, kind, help, value.
pub(super) type Plain<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

/// Adds those metrics.
pub(super) fn plain<T>(out: &mut Exposition, metrics: &[Plain<T>], of: &T) -> fmt::Result {
    for (name, kind, help, value) in metrics {
        out.metric(name, *kind, help)?.sample(&[], value(of))?;
    }
    Ok(())
}
