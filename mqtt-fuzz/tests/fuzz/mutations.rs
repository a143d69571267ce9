//! Mutations of the seeds, for every run of the tests: as long as
//! `TIDEGATE_FUZZ_SECONDS` says for all targets together, 30 when it says nothing; 0 runs the seeds
//! only. `TIDEGATE_FUZZ_SEARCH` is the number of the search, 1 when it says nothing: the same number
//! gives the same inputs. The long form is `cargo xtask fuzz`.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mqtt_fuzz::{Finding, Search, Target};

const SECONDS: &str = "TIDEGATE_FUZZ_SECONDS";
const SEARCH: &str = "TIDEGATE_FUZZ_SEARCH";

#[test]
fn everything_holds_with_mutations_of_packets() {
    search(Target::Decode);
}

#[test]
fn everything_holds_with_mutations_of_operations() {
    search(Target::Server);
}

fn search(target: Target) {
    let seeds: Vec<_> = target.seeds().unwrap();
    let seeds: Vec<_> = seeds.into_iter().map(|seed| seed.input).collect();
    let count = seeds.len();
    let share = u32::try_from(Target::ALL.len()).unwrap();
    let time = Duration::from_secs(number_from(SECONDS, 30)) / share;
    let begun = Instant::now();
    let mut search = Search::new(target, number_from(SEARCH, 1), seeds);
    while search.executions() < count as u64 || begun.elapsed() < time {
        if let Err(finding) = search.step() {
            panic!("{finding}\nthe input is in {}", written(&finding).display());
        }
    }
    println!(
        "{}: {} executions, {count} seeds, {} inputs kept, {} things reached",
        target.name(),
        search.executions(),
        search.corpus(),
        search.seen().count()
    );
}

fn number_from(variable: &str, default: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text}: a number is wanted")),
        Err(_) => default,
    }
}

/// Beside the build, so that nobody has to type it.
fn written(finding: &Finding) -> PathBuf {
    let name = format!("finding-{}", finding.target.name());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, &finding.input).unwrap();
    path
}

/// What holds of most inputs only is found, and the input that shows it is short.
#[test]
fn finding_is_shrunk_to_what_matters() {
    for target in Target::ALL {
        let seeds: Vec<_> = target.seeds().unwrap();
        let seeds: Vec<_> = seeds.into_iter().map(|seed| seed.input).collect();
        let longest = seeds.iter().map(Vec::len).max().unwrap();
        let mut search = Search::judged_by(target, 1, seeds, |input, _| {
            let found = input.iter().skip(1).filter(|byte| **byte == 0xfe);
            assert!(found.count() < 2, "two of them");
        });
        let found = (0..100_000).find_map(|_| search.step().err());
        let finding = found.unwrap();
        let bytes = finding.input.len();
        assert!(bytes <= 6, "{bytes} bytes, the longest seed has {longest}");
        let text = finding.to_string();
        assert!(text.contains("two of them"), "{text}");
        assert!(
            text.contains(&format!("-- run {} ", target.name())),
            "{text}"
        );
    }
}

#[test]
fn search_with_the_same_number_is_the_same() {
    for target in Target::ALL {
        let run = || {
            let seeds = target.seeds().unwrap().into_iter();
            let seeds = seeds.map(|seed| seed.input).collect();
            let mut search = Search::new(target, 7, seeds);
            for _ in 0..1_000 {
                search.step().unwrap_or_else(|finding| panic!("{finding}"));
            }
            (search.corpus(), search.seen().count())
        };
        assert_eq!(run(), run(), "{}", target.name());
    }
}
