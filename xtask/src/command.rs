//! Running programs: with their output line by line, or kept for the case that they fail.

use std::io::{BufRead, BufReader, IsTerminal, Write, stderr, stdout};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program and hands every line of its output to `each`, standard output and standard
/// error in the order in which they were written.
pub(crate) fn lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    let name = name(command);
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command
        .stdin(Stdio::null())
        .stderr(writer.try_clone().context("copy a pipe")?)
        .stdout(writer);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    // The command keeps our copies of the writing end; with them the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .with_context(|| format!("read from {name}"))?
        > 0
    {
        each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
    child.wait().with_context(|| format!("wait for {name}"))
}

/// Runs cargo for its messages: on a terminal with its progress bar, otherwise without a line for
/// every crate.
pub(crate) fn cargo(command: &mut Command) -> Result<bool> {
    if stderr().is_terminal() {
        let status = command.stdin(Stdio::null()).status();
        return Ok(status
            .with_context(|| format!("start {}", name(command)))?
            .success());
    }
    let status = lines(command, |line| {
        if !is_progress(line) {
            println!("{line}");
        }
    })?;
    flush();
    Ok(status.success())
}

/// A line in which cargo says what it does now, without colours.
pub(crate) fn is_progress(line: &str) -> bool {
    const VERBS: &[&str] = &[
        "Adding",
        "Blocking",
        "Checking",
        "Compiling",
        "Documenting",
        "Downloaded",
        "Downloading",
        "Executable",
        "Finished",
        "Fresh",
        "Generated",
        "Installed",
        "Installing",
        "Locking",
        "Replaced",
        "Scraping",
        "Updating",
    ];
    let mut words = line.split_whitespace();
    line.starts_with(' ') && words.next().is_some_and(|word| VERBS.contains(&word))
}

/// Runs a program to its end; its output is shown only when it fails, and only the end of it.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    const LINES_SHOWN: usize = 40;
    let mut kept: Vec<String> = Vec::new();
    let status = lines(command, |line| kept.push(line.to_owned()))?;
    if !status.success() {
        let tail = kept
            .get(kept.len().saturating_sub(LINES_SHOWN)..)
            .unwrap_or_default();
        bail!(
            "{} ended with {status}; it printed:\n{}",
            name(command),
            tail.join("\n")
        );
    }
    Ok(())
}

/// Whether a program runs and succeeds; nothing is shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// So that lines of other programs, which write to the same place, come in order.
pub(crate) fn flush() {
    let _ = stdout().flush();
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{is_progress, lines, quiet, succeeds};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_come_in_order_from_both_outputs_and_with_the_status() {
        let mut seen = Vec::new();
        let mut command = shell("echo a; echo b >&2; echo c; printf d; exit 3");
        let status = lines(&mut command, |line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen, ["a", "b", "c", "d"]);
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn output_is_in_the_error_when_a_quiet_program_fails() {
        assert!(quiet(&mut shell("echo all is well")).is_ok());
        let error = quiet(&mut shell("echo reason >&2; exit 1"))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("it printed:\nreason"), "{error}");
        assert!(succeeds(&mut shell("true")) && !succeeds(&mut shell("false")));
    }

    #[test]
    fn progress_is_told_from_messages() {
        assert!(is_progress("   Compiling bytes v1.12.1"));
        assert!(is_progress(
            "    Finished `test` profile [unoptimized] target(s) in 1s"
        ));
        assert!(!is_progress("error: could not compile `x`"));
        assert!(!is_progress("     Running unittests src/lib.rs"));
        assert!(!is_progress("Compiling is what the test said"));
    }
}
