//! `tidegate check`: everything that is wrong with a configuration, and what is worth knowing.

mod disk;

use anyhow::anyhow;
use mqtt::TopicFilter;

use crate::cli::CheckOptions;
use crate::exit::{Failure, Status};
use crate::run::load_config;
use crate::stdout::print;
use disk::Said;

/// Prints what is found; fails if the file is not valid, or what it asks for cannot fit the disk.
pub(crate) fn run(options: &CheckOptions) -> Result<(), Failure> {
    let mut config = load_config(&options.config)?;
    if let Some(data) = &options.data {
        config.data_dir.clone_from(data);
    }
    let file = options.config.display();
    let (note, disk_warnings) = match disk::compare(&config, options)? {
        Said::Fits { note, warnings } => (note, warnings),
        Said::Refused(what) => {
            let refusal = anyhow!("{file}: {what}");
            return Err(Failure::with(Status::Configuration, refusal));
        }
    };
    let mut out = String::new();
    // What is printed can be a configuration file again.
    let mark = if options.print { "# " } else { "" };
    if options.print {
        out.push_str(&config.explain());
    }
    for warning in shadowed_filters(&config).iter().chain(&disk_warnings) {
        out.push_str(&format!("{mark}warning: {file}: {warning}\n"));
    }
    if !options.print {
        out.push_str(&format!("{file}: {}\n", note));
        out.push_str(&format!("{file}: no problems found\n"));
    }
    print(&out)?;
    Ok(())
}

/// Filters that can never be asked, because an earlier log takes all that they match.
fn shadowed_filters(config: &firmware_config::Config) -> Vec<String> {
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
    use super::covers;

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
