//! Whether the logs of a configuration fit the disk that they will be on: this machine's, seen
//! without writing to it, or one whose size is given.

use std::path::Path;

use anyhow::Context as _;
use firmware_config::Config;

use super::Said;
use crate::cli::CheckOptions;
use crate::doctor;
use crate::room::{self, Space, Verdict, nearest_existing};
use crate::status::size;

/// Compares what the configuration may fill with the disk that `options` mean.
pub(super) fn compare(config: &Config, options: &CheckOptions) -> anyhow::Result<Said> {
    let need = size(room::need(config).total_bytes());
    if options.no_disk {
        return Ok(Said::Fits {
            note: format!("the logs may fill {need}; compared with no disk (--no-disk)"),
            warnings: Vec::new(),
        });
    }
    if let Some(disk) = options.disk {
        let space = Space::elsewhere(disk.get());
        return Ok(judge(config, &space, "the disk (--disk)", ""));
    }
    let data_dir = std::path::absolute(&config.data_dir)
        .with_context(|| format!("find the data folder {}", config.data_dir.display()))?;
    let nearest = nearest_existing(&data_dir);
    if !nearest.is_dir() {
        return Ok(Said::Refused(format!(
            "data_dir: {} is no folder",
            nearest.display()
        )));
    }
    let place = place(&data_dir, &nearest);
    let space = match Space::of(&data_dir) {
        Ok(space) => space,
        Err(error) => {
            return Ok(Said::Fits {
                note: format!("the logs may fill {need}"),
                warnings: vec![format!(
                    "whether they fit is not known: the size of {place} cannot be seen: {error}"
                )],
            });
        }
    };
    let elsewhere = "\n  if that is not where the gateway will run: --disk SIZE, or --no-disk";
    let mut said = judge(config, &space, &place, elsewhere);
    if let Said::Fits { warnings, .. } = &mut said
        && doctor::lies_in_memory(&data_dir)
    {
        warnings.push(format!(
            "{place} is memory: what is stored there does not survive a reboot"
        ));
    }
    Ok(said)
}

/// The file system of a data folder, for people.
fn place(data_dir: &Path, nearest: &Path) -> String {
    let shown = data_dir.display();
    match data_dir.exists() {
        true => format!("the file system of {shown}"),
        false => format!(
            "the file system of {shown} (not there yet: that of {})",
            nearest.display()
        ),
    }
}

/// What is free, or the data folder's already.
fn room_for_us(space: &Space) -> u64 {
    let used = space.used_bytes.unwrap_or_default();
    space.free_bytes.saturating_add(used)
}

fn judge(config: &Config, space: &Space, place: &str, elsewhere: &str) -> Said {
    let need = room::need(config);
    let total = size(need.total_bytes());
    let has = size(space.usable_bytes);
    let mut warnings = Vec::new();
    let note = format!("the logs may fill {total}, {place} has {has}");
    match room::judge(space, &need) {
        Verdict::Fits => {}
        Verdict::Never => {
            return Said::Refused(format!(
                "the logs cannot fit the disk: they may fill {total}, {place} has {has}\n  {}\n\
                 {}{elsewhere}",
                room::parts(&need),
                room::advice(config, &need, space.usable_bytes),
            ));
        }
        Verdict::NotNow => warnings.push(format!(
            "the logs do not fit beside what else is on the disk: they may fill {total}, {} are \
             free there and {} are the data folder's already; free space, or lower \
             log[].retention.bytes",
            size(space.free_bytes),
            size(space.used_bytes.unwrap_or_default())
        )),
        Verdict::Hidden => warnings.push(format!(
            "whether the logs fit beside what else is on the disk is not known: they may fill \
             {total}, {} are free, and what the data folder has already cannot be seen by this user",
            size(space.free_bytes)
        )),
        Verdict::NoSize => warnings.push(format!(
            "whether the logs fit is not known: {place} does not say how large it is; --disk SIZE \
             does"
        )),
    }
    let small = need.total_of_small_commits_bytes();
    if room::judge(space, &need) == Verdict::Fits && small > room_for_us(space) {
        warnings.push(format!(
            "the logs fit only while several messages share a commit: if each has one of its own, as \
             where few devices publish, they take up to {}; the disk would be full then, and \
             publishes refused, before retention makes room",
            size(small)
        ));
    }
    let note = match space.total_bytes {
        0 => format!("the logs may fill {total}"),
        _ => note,
    };
    Said::Fits { note, warnings }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn compared(config: &Config, line: &str) -> Said {
        let line = format!("tidegate check --config a {line}");
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Check(options) = arguments.command else {
            unreachable!("it says check")
        };
        compare(config, &options).unwrap()
    }

    #[test]
    fn disk_of_the_gateway_is_what_is_given() {
        let config = Config::default();
        let Said::Fits { note, warnings } = compared(&config, "--disk 2GB") else {
            panic!("the default fits 2 GB");
        };
        assert!(note.contains("the disk (--disk) has 1.9 GiB"), "{note}");
        assert_eq!(warnings.len(), 1, "of small commits: {warnings:?}");
        let Said::Refused(what) = compared(&config, "--disk 1GB") else {
            panic!("the default does not fit 1 GB");
        };
        assert!(!what.contains("--no-disk"), "{what}");
        let Said::Fits { note, .. } = compared(&config, "--no-disk") else {
            panic!("nobody asked");
        };
        assert!(note.contains("compared with no disk"), "{note}");
    }

    #[test]
    fn disk_that_small_commits_would_fill_is_warned_of() {
        let config = Config::default();
        let warnings = |disk| match compared(&config, disk) {
            Said::Fits { warnings, .. } => warnings,
            Said::Refused(what) => panic!("{what}"),
        };
        let found = warnings("--disk 2GB");
        assert!(
            matches!(&found[..], [one] if one.contains("up to 2.7 GiB")),
            "{found:?}"
        );
        assert_eq!(warnings("--disk 4GB"), [""; 0]);
    }

    #[test]
    fn what_others_have_on_the_disk_is_only_warned_of() {
        let full = Space {
            free_bytes: 1 << 20,
            ..Space::elsewhere(8 << 30)
        };
        for (space, says) in [
            (full, "do not fit beside what else is on the disk"),
            (
                Space {
                    used_bytes: None,
                    ..full
                },
                "cannot be seen by this user",
            ),
            (Space::default(), "does not say how large it is"),
        ] {
            let said = judge(&Config::default(), &space, "the disk", "");
            let Said::Fits { warnings, .. } = said else {
                panic!("refused: {space:?}");
            };
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(says), "{warnings:?}");
        }
    }
}
