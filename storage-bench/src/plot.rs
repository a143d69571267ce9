//! `storage-bench plot`: the CSV files of soaks as one picture.
//!
//! SVG written by hand: four panels of lines need no library, and the picture stays a text of a few
//! kilobytes that does not change when a library does.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::cli::PlotOptions;
use crate::figure;

/// Title, columns of the CSV, and the target if there is one.
type Panel = (&'static str, &'static [&'static str], Option<f64>);

const PANELS: [Panel; 4] = [
    ("disk bytes per live byte", &["disk_per_live"], Some(1.3)),
    (
        "write() bytes per payload byte",
        &["written_per_payload"],
        None,
    ),
    ("memory, MiB", &["rss_mib"], None),
    ("time to open, ms", &["open_ms"], None),
];
const COLOURS: [&str; 4] = ["#0b6e99", "#c4511c", "#4a7c2c", "#7a3e9d"];
const WIDTH: f64 = 760.0;
const PANEL: f64 = 170.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 44.0;
const DRAWN: f64 = 110.0;

/// A CSV file.
#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<String>,
    rows: Vec<Vec<Option<f64>>>,
}

impl Table {
    fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let columns = lines.next().unwrap_or_default();
        let rows = lines.map(|line| line.split(',').map(|cell| cell.parse().ok()).collect());
        let table = Self {
            name: name.to_owned(),
            columns: columns.split(',').map(str::to_owned).collect(),
            rows: rows.collect(),
        };
        ensure!(!table.rows.is_empty(), "{name} has no samples");
        Ok(table)
    }

    /// Points of a column over what was written.
    fn points(&self, column: &str) -> anyhow::Result<Vec<(f64, f64)>> {
        let at = |wanted: &str| {
            let at = self.columns.iter().position(|name| name == wanted);
            at.with_context(|| format!("{} has no column {wanted}", self.name))
        };
        let (x, y) = (at("payload_mib")?, at(column)?);
        let point = |row: &Vec<Option<f64>>| {
            Some((
                row.get(x).copied().flatten()?,
                row.get(y).copied().flatten()?,
            ))
        };
        Ok(self.rows.iter().filter_map(point).collect())
    }
}

/// Draws.
///
/// # Errors
/// A file cannot be read or written, or is not what `turnover` writes.
pub(crate) fn run(options: &PlotOptions) -> anyhow::Result<()> {
    let tables: Vec<Table> = options
        .csv
        .iter()
        .map(|path| load(path))
        .collect::<Result<_, _>>()?;
    let picture = draw(&tables, figure(options.retained_mib))?;
    fs::write(&options.svg, picture).with_context(|| format!("write {}", options.svg.display()))
}

fn load(path: &Path) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Table::parse(&name, &text)
}

fn draw(tables: &[Table], retained_mib: f64) -> anyhow::Result<String> {
    let height = TOP + PANEL * figure(PANELS.len() as u64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for ((number, table), colour) in (0..).zip(tables).zip(COLOURS.iter().cycle()) {
        let x = LEFT + figure(number) * 160.0;
        let name = table.name.replace(['<', '>', '&'], "");
        writeln!(
            svg,
            "<text x=\"{x}\" y=\"20\" fill=\"{colour}\">{name}</text>"
        )?;
    }
    for ((number, panel), top) in (0..)
        .zip(PANELS)
        .map(|(n, p)| ((n, p), TOP + PANEL * figure(n)))
    {
        let is_last = number + 1 == PANELS.len() as u64;
        draw_panel(&mut svg, panel, tables, retained_mib, top, is_last)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn draw_panel(
    svg: &mut String,
    (title, columns, target): Panel,
    tables: &[Table],
    retained_mib: f64,
    top: f64,
    is_last: bool,
) -> anyhow::Result<()> {
    let mut series = Vec::new();
    for (table, colour) in tables.iter().zip(COLOURS.iter().cycle()) {
        for column in columns {
            series.push((table.points(column)?, *colour));
        }
    }
    let all = || series.iter().flat_map(|(points, _)| points);
    let x_most = all().map(|point| point.0).fold(retained_mib, f64::max);
    let y_most = all().map(|point| point.1).chain(target).fold(0.1, f64::max) * 1.1;
    let x = |value: f64| LEFT + value / x_most * (WIDTH - LEFT - 20.0);
    let y = |value: f64| top + 20.0 + DRAWN * (1.0 - value / y_most);
    writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{title}</text>",
        top + 10.0
    )?;
    for part in [0.0, 0.5, 1.0] {
        let (value, at) = (y_most * part, y(y_most * part));
        let end = x(x_most);
        writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{end:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.2}</text>",
            LEFT - 6.0,
            at + 4.0
        )?;
    }
    if let Some(target) = target {
        let (at, end) = (y(target), x(x_most));
        writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{end:.1}\" stroke=\"#888\" stroke-dasharray=\"5 4\"/>"
        )?;
    }
    for (points, colour) in &series {
        let path: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let path = path.join(" ");
        writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        )?;
    }
    let turned = x_most / retained_mib;
    let below = if is_last {
        "times what is kept has been written"
    } else {
        ""
    };
    writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{turned:.0} {below}</text>",
        x(x_most),
        top + DRAWN + 36.0
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "payload_mib,disk_per_live,written_per_payload,rss_mib,open_ms";

    #[test]
    fn every_sample_that_has_a_value_is_drawn() {
        let text = format!("{HEADER}\n100,1.1,1.2,30,\n200,1.2,1.1,31,12.5\n");
        let svg = draw(&[Table::parse("a", &text).unwrap()], 100.0).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 4);
        let points: Vec<usize> = svg
            .lines()
            .filter_map(|line| line.strip_prefix("<polyline points=\""))
            .map(|line| line.split('"').next().unwrap().split(' ').count())
            .collect();
        assert_eq!(points, [2, 2, 2, 1]);
    }

    #[test]
    fn file_that_is_no_soak_is_refused_with_what_it_lacks() {
        let table = Table::parse("a", "payload_mib,rss_mib\n1,2\n").unwrap();
        let error = draw(&[table], 1.0).unwrap_err().to_string();
        assert_eq!(error, "a has no column disk_per_live");
        assert!(Table::parse("a", HEADER).is_err());
    }
}
