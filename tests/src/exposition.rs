//! Reading `/metrics`: the text format of Prometheus, as far as a test needs it.

/// The samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<(String, f64)>,
}

impl Metrics {
    /// Reads the text. Lines that are no samples are left out; whether the text is well formed is
    /// promtool's business.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                // A label's value may hold spaces, a sample's value may not.
                let end = line
                    .rfind('}')
                    .map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
                let (series, rest) = line.split_at_checked(end)?;
                let value = rest.split_whitespace().next()?.parse().ok()?;
                Some((series.to_owned(), value))
            });
        Self {
            samples: samples.collect(),
        }
    }

    /// The sum over all series of a name that carry every given label; `None` without any.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matches = |series: &str| {
            let (base, braces) = series.split_once('{').unwrap_or((series, ""));
            let has = |(key, value): &(&str, &str)| {
                let pair = format!("{key}=\"{value}\"");
                let at = braces.find(&pair);
                at.is_some_and(|at| at == 0 || braces.get(..at).is_some_and(|b| b.ends_with(',')))
            };
            base == name && labels.iter().all(has)
        };
        let values = self
            .samples
            .iter()
            .filter(|(series, _)| matches(series))
            .map(|(_, v)| *v);
        values.reduce(|a, b| a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let metrics = Metrics::parse(
            "# TYPE a_total counter\n\
             a_total{log=\"x\",reason=\"too } big\"} 3\n\
             a_total{log=\"y\"} 4 1700000000\n\
             a_total_more 100\n\
             b 1.5\n",
        );
        assert_eq!(metrics.sum("a_total", &[]), Some(7.0));
        assert_eq!(
            metrics.sum("a_total", &[("log", "x"), ("reason", "too } big")]),
            Some(3.0)
        );
        assert_eq!(metrics.sum("a_total", &[("og", "x")]), None);
        assert_eq!(metrics.sum("b", &[]), Some(1.5));
        assert_eq!(metrics.sum("c", &[]), None);
    }
}
