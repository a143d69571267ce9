//! What to do about a configuration that does not fit: the log that keeps most, what would fit, and
//! the keys.

use std::fmt::Write as _;

use firmware_config::{ByteCount, Config, Durability, LogConfig, Retention};
use storage::DiskNeed;

use crate::status::size;

/// Which log keeps most, what would fit into `bytes`, and which keys say so; a line each.
pub(crate) fn advice(config: &Config, need: &DiskNeed, bytes: u64) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = match (largest(config), need.retention_that_fits(bytes)) {
        (Some(log), Some(most)) => write_what_fits(&mut out, config, log, need, most),
        _ => write_why_nothing_fits(&mut out, config, need, bytes),
    };
    out.trim_end().to_owned()
}

/// The stored log that keeps most; the first of several.
fn largest(config: &Config) -> Option<&LogConfig> {
    let is_stored = |log: &&LogConfig| !matches!(log.durability, Durability::Memory);
    let stored = config.logs.iter().filter(is_stored);
    stored.min_by_key(|log| std::cmp::Reverse(log.retention.bytes))
}

fn write_what_fits(
    out: &mut String,
    config: &Config,
    log: &LogConfig,
    need: &DiskNeed,
    most: u64,
) -> std::fmt::Result {
    let kept = log.retention.bytes;
    let default = if kept == Retention::default().bytes {
        ", the default"
    } else {
        ""
    };
    writeln!(
        out,
        "  most is kept by log `{}`: retention.bytes is \"{kept}\"{default}",
        *log.name
    )?;
    let least = config.storage.segment_bytes.get().saturating_mul(2);
    let too_much = need.retention_bytes.saturating_sub(most);
    let alone = kept
        .get()
        .checked_sub(too_much)
        .filter(|left| *left >= least);
    let alone = alone.map_or_else(String::new, |left| {
        format!(
            ", so \"{}\" for `{}` if the others stay",
            rounded(left, least),
            *log.name
        )
    });
    writeln!(
        out,
        "  would fit: \"{}\" in all logs together{alone}",
        rounded(most, least)
    )?;
    writeln!(
        out,
        "  keys: log[].retention.bytes (each log has one, `default` too), \
         storage.free_space_reserve, storage.segment_bytes"
    )
}

fn write_why_nothing_fits(
    out: &mut String,
    config: &Config,
    need: &DiskNeed,
    bytes: u64,
) -> std::fmt::Result {
    let beside = need.fixed_bytes().saturating_sub(need.reserve_bytes);
    let without_reserve = bytes.saturating_add(need.reserve_bytes);
    if let Some(most) = need.retention_that_fits(without_reserve)
        && need.reserve_bytes > beside
    {
        let most = rounded(most, 0);
        return writeln!(
            out,
            "  nothing fits beside storage.free_space_reserve, which is \"{}\"; without it \"{most}\" \
             in all logs together",
            config.storage.free_space_reserve
        );
    }
    writeln!(
        out,
        "  nothing fits: {} are needed beside the logs, and each log keeps at least two segments of \
         storage.segment_bytes, which is \"{}\"",
        size(need.fixed_bytes()),
        config.storage.segment_bytes
    )?;
    writeln!(
        out,
        "  keys: storage.segment_bytes, storage.free_space_reserve, limits.retained_bytes_max"
    )
}

/// A size to write into a configuration: never more than `bytes`, and never less than `least`, which
/// is no more than `bytes` either.
fn rounded(bytes: u64, least: u64) -> ByteCount {
    let step = if bytes >= 10 << 30 { 1 << 30 } else { 1 << 20 };
    ByteCount::new((bytes / step * step).max(least))
}

#[cfg(test)]
mod tests {
    use super::super::{Space, Verdict, judge, need, tests::*};
    use super::*;

    #[test]
    fn advice_names_the_log_that_keeps_most_and_what_would_fit() {
        for (sizes, bytes, says) in [
            (
                vec![("a", "2GiB"), ("b", "40GiB")],
                32 * GIB,
                ["log `b`", "\"24GiB\" in all", "\"21GiB\" for `b`"],
            ),
            // Not even without it: the others are too large.
            (
                vec![("a", "30GiB"), ("b", "40GiB")],
                32 * GIB,
                ["log `b`", "\"24GiB\" in all logs together\n", "keys:"],
            ),
            (
                vec![("a", "32MiB")],
                2 * GIB,
                [
                    "log `default`: retention.bytes is \"1GiB\", the default",
                    "in all logs together",
                    "keys:",
                ],
            ),
        ] {
            let config = logs(&sizes);
            let text = advice(&config, &need(&config), bytes);
            for words in says {
                assert!(text.contains(words), "{words}: {text}");
            }
        }
    }

    #[test]
    fn what_is_advised_fits() {
        let named = |text: &str, after: &str| -> ByteCount {
            let rest = text.split(after).nth(1).unwrap();
            rest.split('"').nth(1).unwrap().parse().unwrap()
        };
        for mib in (400..60_000).step_by(777) {
            let disk = mib << 20;
            let config = logs(&[("a", "64GiB"), ("default", "64MiB")]);
            let text = advice(&config, &need(&config), disk);
            let alone = named(&text, "so ").to_string();
            let changed = logs(&[("a", &alone), ("default", "64MiB")]);
            let verdict = judge(&Space::elsewhere(disk), &need(&changed));
            assert_eq!(verdict, Verdict::Fits, "{mib} MiB: {text}");
        }
    }

    #[test]
    fn nothing_fits_says_why() {
        for (text, bytes, says) in [
            (
                "[storage]\nfree_space_reserve = \"1024TiB\"\n",
                GIB,
                "beside storage.free_space_reserve, which is \"1024TiB\"",
            ),
            (
                "[storage]\nsegment_bytes = \"256MiB\"\n",
                GIB,
                "two segments of storage.segment_bytes, which is \"256MiB\"",
            ),
            ("", 0, "nothing fits"),
        ] {
            let config = config(text);
            let text = advice(&config, &need(&config), bytes);
            assert!(text.contains(says), "{says}: {text}");
        }
    }
}
