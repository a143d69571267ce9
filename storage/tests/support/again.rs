//! The test program started again: as itself, or through the emulator that this one runs in.

use std::ffi::OsString;
use std::process::Command;

/// Names the emulator and its arguments, divided by spaces: programs for another processor start by
/// name only where the kernel was told of the emulator.
const RUNNER: &str = "TIDEGATE_TEST_RUNNER";

/// What starts it: its own path, with the emulator before it.
pub(crate) fn words() -> Vec<OsString> {
    let runner = std::env::var(RUNNER).unwrap_or_default();
    let mut words: Vec<OsString> = runner.split_whitespace().map(Into::into).collect();
    words.push(std::env::current_exe().unwrap().into());
    words
}

/// The same as a command.
pub(crate) fn command() -> Command {
    let mut words = words().into_iter();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}
