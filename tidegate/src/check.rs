//! `tidegate check`: everything that is wrong with a configuration, and what is worth knowing.

mod disk;
mod memory;

use anyhow::anyhow;
use firmware_config::{Config, LogConfig, OnFull};
use mqtt::TopicFilter;

use crate::cli::CheckOptions;
use crate::exit::{Failure, Status};
use crate::machine;
use crate::run::load_config;
use crate::stdout::print;

/// What came of comparing the configuration with a disk or a memory.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It may be started, though not everything may be well.
    Fits { note: String, warnings: Vec<String> },
    /// The gateway could only fill what there is, or not even begin: why, and what would do.
    Refused(String),
}

/// Prints what is found; fails if the file is not valid, or what it asks for cannot fit the disk or
/// the memory.
pub(crate) fn run(options: &CheckOptions) -> Result<(), Failure> {
    let mut machine = machine::detect();
    if let Some(board) = options.board {
        machine = machine.judged_as(board);
    }
    let mut config = load_config(&options.config, &machine)?;
    if let Some(data) = &options.data {
        config.data_dir.clone_from(data);
    }
    let file = options.config.display();
    let (mut notes, mut room_warnings, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for said in [memory::compare(&config), disk::compare(&config, options)?] {
        match said {
            Said::Fits { note, warnings } => {
                notes.push(note);
                room_warnings.extend(warnings);
            }
            Said::Refused(what) => refusals.push(format!("{file}: {what}")),
        }
    }
    if !refusals.is_empty() {
        let refusal = anyhow!("{}", refusals.join("\n"));
        return Err(Failure::with(Status::Configuration, refusal));
    }
    let mut out = String::new();
    // What is printed can be a configuration file again.
    let mark = if options.print { "# " } else { "" };
    if options.print {
        out.push_str(&config.explain());
    }
    let warnings = shadowed_filters(&config).into_iter();
    let warnings = warnings.chain(logs_that_stay_full(&config));
    for warning in warnings.chain(room_warnings) {
        out.push_str(&format!("{mark}warning: {file}: {warning}\n"));
    }
    if !options.print {
        for note in notes {
            push_note(&mut out, &file.to_string(), &note);
        }
        out.push_str(&format!("{file}: no problems found\n"));
    }
    print(&out)?;
    Ok(())
}

/// Its lines after the name of the file, those that are indented without it.
fn push_note(out: &mut String, file: &str, note: &str) {
    for line in note.lines() {
        match line.starts_with(' ') {
            true => out.push_str(&format!("{line}\n")),
            false => out.push_str(&format!("{file}: {line}\n")),
        }
    }
}

/// Filters that can never be asked, because an earlier log takes all that they match.
fn shadowed_filters(config: &Config) -> Vec<String> {
    let mut earlier: Vec<(String, TopicFilter)> = Vec::new();
    let mut warnings = Vec::new();
    for log in &config.logs {
        let mut own = Vec::new();
        for filter in &log.filters {
            let Ok(parsed) = filter.parse::<TopicFilter>() else {
                continue;
            };
            if let Some((name, by)) = earlier.iter().find(|(_, by)| covers(by.as_str(), filter)) {
                warnings.push(format!(
                    "log `{}`: filter `{}` takes nothing, log `{name}` with `{}` comes first",
                    *log.name,
                    **filter,
                    by.as_str()
                ));
            }
            own.push((log.name.to_string(), parsed));
        }
        earlier.extend(own);
    }
    warnings
}

/// Logs that refuse publishes when they are full, and of which nothing ever goes.
fn logs_that_stay_full(config: &Config) -> Vec<String> {
    let routes = config.bridge.iter().flat_map(|bridge| &bridge.routes);
    let routed: Vec<_> = routes.map(|route| &route.log).collect();
    let stays_full = |log: &&LogConfig| {
        log.on_full == OnFull::Reject && log.retention.age.is_none() && !routed.contains(&&log.name)
    };
    let logs = config.logs.iter().filter(stays_full);
    let warning = |log: &LogConfig| {
        format!(
            "log `{}`: with on_full = \"reject\", no route and no retention.age nothing ever makes \
             room: once full, it refuses every publish",
            *log.name
        )
    };
    logs.map(warning).collect()
}

/// Whether every topic name that `inner` matches is matched by `outer` too.
fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) => return true,
            (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use firmware_config::Machine;

    use super::*;
    use crate::wiring;

    #[test]
    fn log_that_nothing_empties_is_told() {
        let warnings = |log: &str, rest: &str| {
            let text = format!(
                "gateway_id = \"g\"\n[[log]]\nname = \"a\"\nfilters = [\"a/#\"]\n{log}\n{rest}"
            );
            logs_that_stay_full(
                &Config::from_toml(&text, "test", &wiring::checks(), &Machine::default()).unwrap(),
            )
        };
        let route = "[bridge]\nbootstrap = [\"127.0.0.1:9092\"]\n[[bridge.route]]\nname = \"r\"\nlog = \"a\"\ntopic = \"t\"";
        let reject = "on_full = \"reject\"";
        let told = warnings(reject, "");
        assert!(
            told.len() == 1 && told[0].starts_with("log `a`"),
            "{told:?}"
        );
        assert_eq!(warnings("", ""), [] as [String; 0]);
        assert_eq!(warnings(reject, route), [] as [String; 0]);
        let age = format!("{reject}\nretention = {{ age = \"7d\" }}");
        assert_eq!(warnings(&age, ""), [] as [String; 0]);
    }

    #[test]
    fn filter_covers_what_matches_less() {
        for (outer, inner) in [
            ("#", "a/b"),
            ("a/#", "a/+/c"),
            ("a/+", "a/b"),
            ("+/+", "a/+"),
            ("a/#", "a"),
            ("a/#", "a/#"),
        ] {
            assert!(covers(outer, inner), "{outer} covers {inner}");
        }
        for (outer, inner) in [
            ("a/+", "a/#"),
            ("a/b", "a/+"),
            ("a", "a/b"),
            ("a/b/#", "a/#"),
            ("+", "a/b"),
            ("a/+/c", "a/b/d"),
        ] {
            assert!(!covers(outer, inner), "{outer} does not cover {inner}");
        }
    }
}
