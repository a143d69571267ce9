//! Saying that a test cannot run here, and why.
//!
//! The contract with `cargo xtask test`, for crates that do not use this library: append one line
//! `<test name>: <reason>` to the file named by the environment variable `TIDEGATE_SKIPS`, print
//! `skipped: <reason>`, and return from the test. Skips are taken off the passed tests.

use std::fs::OpenOptions;
use std::io::Write;
use std::{env, thread};

/// Notes that the calling test is skipped. Call it once, on the test's own thread (its name is the
/// test's), and return.
pub fn skip(reason: &str) {
    let reason = reason.replace('\n', " ");
    #[expect(
        clippy::print_stdout,
        reason = "this is what a person running the test sees"
    )]
    {
        println!("skipped: {reason}");
    }
    let Some(path) = env::var_os("TIDEGATE_SKIPS") else {
        return;
    };
    let line = format!(
        "{}: {reason}\n",
        thread::current().name().unwrap_or("unnamed")
    );
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("skip noted in {} failed: {error}", path.display());
    }
}

/// The value, or a skip with the reason why it is not there:
/// `let Some(jars) = skip::unless(kafka::available()) else { return };`
pub fn unless<T>(available: Result<T, String>) -> Option<T> {
    available.map_err(|reason| skip(&reason)).ok()
}
