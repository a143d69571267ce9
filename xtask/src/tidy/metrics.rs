//! Every metric of the code is in docs/metrics.md and every metric there is in the code.

use std::collections::BTreeMap;

use super::Source;

const DOC: &str = "docs/metrics.md";
const PREFIX: &str = "tidegate_";

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let Some(doc) = sources.iter().find(|source| source.path == DOC) else {
        return Vec::new();
    };
    let documented = names([doc], PREFIX);
    let product = sources.iter().filter(|source| {
        source.is_rust() && source.path.contains("/src/") && !is_apart(&source.path)
    });
    let in_code = names(product, "\"tidegate_");
    let missing = |from: &BTreeMap<String, String>, to: &BTreeMap<String, String>, what: &str| {
        let missing = from.iter().filter(|(name, _)| !to.contains_key(*name));
        missing
            .map(|(name, place)| format!("{place}: {name} {what}"))
            .collect::<Vec<_>>()
    };
    let mut findings = missing(&in_code, &documented, "is not in docs/metrics.md");
    findings.extend(missing(&documented, &in_code, "is not in the code"));
    findings
}

/// Crates that are not the product.
fn is_apart(path: &str) -> bool {
    path.starts_with("tests/") || path.starts_with("xtask/")
}

/// Metric names after `start`, with the place of the first. The suffix of a counter is left off: it
/// is added when the metric is shown.
fn names<'a>(
    sources: impl IntoIterator<Item = &'a Source>,
    start: &str,
) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            for (at, _) in line.match_indices(start) {
                let rest = line.get(at + start.len()..).unwrap_or_default();
                let is_part = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
                let end = rest
                    .find(|char| !is_part(char) && char != '_')
                    .unwrap_or(rest.len());
                let name = rest.get(..end).unwrap_or_default();
                if !name.is_empty() && !name.ends_with('_') {
                    let name = format!("{PREFIX}{}", name.trim_end_matches("_total"));
                    names
                        .entry(name)
                        .or_insert_with(|| format!("{}:{}", source.path, number + 1));
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::Source;

    #[test]
    fn code_and_document_name_the_same_metrics() {
        let doc = "| `tidegate_log_bytes` | … |\n| `tidegate_broker_messages_total` | … |\n";
        let code = "r(\"tidegate_log_bytes\"); r(\"tidegate_broker_messages\"); use tidegate_x;\n";
        let sources = |doc: &str, code: &str| {
            [
                Source::new("docs/metrics.md", doc),
                Source::new("broker/src/metrics.rs", code),
            ]
        };
        assert!(check(&sources(doc, code)).is_empty());
        assert_eq!(
            check(&sources(
                doc,
                "r(\"tidegate_log_bytes\");\nr(\"tidegate_new\");\n"
            )),
            [
                "broker/src/metrics.rs:2: tidegate_new is not in docs/metrics.md",
                "docs/metrics.md:2: tidegate_broker_messages is not in the code",
            ]
        );
    }
}
