//! Printing: findings for people, or as JSON with the figures behind them.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::facts::Facts;
use super::finding::{Finding, Level, count};

/// Where words go to the next line; the indent comes on top.
const WIDTH: usize = 80;
const INDENT: usize = 22;

/// For people.
pub(super) fn text(facts: &Facts, findings: &[Finding]) -> String {
    let mut out = format!(
        "tidegate {} doctor: {}\n",
        env!("CARGO_PKG_VERSION"),
        facts.data_dir.display()
    );
    if let Some(place) = &facts.measured_in {
        out.push_str(&format!("measured in {}\n", place.display()));
    }
    out.push('\n');
    for finding in findings {
        let head = format!("{:8} {:<12} ", finding.level.word(), finding.about);
        out.push_str(&paragraph(&head, &finding.seen));
        if !finding.means.is_empty() {
            out.push_str(&paragraph("", &finding.means));
        }
        if !finding.remedy.is_empty() {
            out.push_str(&paragraph("", &format!("-> {}", finding.remedy)));
        }
    }
    out.push_str(&format!("\n{}\n", summary(findings)));
    out
}

/// How many problems and warnings there are.
pub(super) fn summary(findings: &[Finding]) -> String {
    let number = |level, word: &str| match count(findings, level) {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{}, {}, {}",
        number(Level::Problem, "problem"),
        number(Level::Warning, "warning"),
        number(Level::Note, "note")
    )
}

fn paragraph(head: &str, words: &str) -> String {
    let mut out = String::new();
    let mut line = format!("{head:INDENT$}");
    let mut width = 0;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(INDENT);
            width = 0;
        }
        if width > 0 {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
    }
    out.push_str(&line);
    out.push('\n');
    out
}

/// For programs. Fields may be added; if one goes or changes its meaning, `format` grows.
pub(super) fn json(facts: &Facts, findings: &[Finding]) -> anyhow::Result<String> {
    let value: Value = json!({
        "format": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "problems": count(findings, Level::Problem),
        "warnings": count(findings, Level::Warning),
        "findings": findings,
        "figures": {
            "data_dir": facts.data_dir.to_string_lossy(),
            "measured_in": facts.measured_in.as_ref().map(|path| path.to_string_lossy()),
            "sync": facts.measured.figures(),
            "fence_syncs": facts.fence.as_ref().and_then(|fence| fence.as_ref().ok()),
            "file_system": facts.mount,
            "device": facts.device,
            "space": facts.space,
            "budget": facts.need,
            "clock": facts.clock,
            "machine": facts.machine,
            "demand": facts.demand,
            "folder": facts.folder,
        },
    });
    let text = serde_json::to_string_pretty(&value).context("write JSON")?;
    Ok(format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_below_themselves() {
        let text = paragraph(&format!("{:8} {:<12} ", "OK", "sync"), &"word ".repeat(20));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].starts_with("OK       sync         word word"),
            "{text}"
        );
        assert!(lines[1].starts_with("                      word"), "{text}");
        assert!(
            lines.iter().all(|line| line.len() <= WIDTH + INDENT),
            "{text}"
        );
    }

    #[test]
    fn summary_counts_by_level() {
        let findings = [
            Finding::ok("a", "x"),
            Finding::new("a", Level::Problem, "x"),
            Finding::new("a", Level::Note, "x"),
            Finding::new("a", Level::Note, "x"),
        ];
        assert_eq!(summary(&findings), "1 problem, 0 warnings, 2 notes");
    }
}
