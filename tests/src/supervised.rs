//! A child process that cannot outlive the test.
//!
//! Between the test and the child stands a small shell that holds the read end of a pipe. When the
//! test process ends in whatever way (a panic, SIGKILL, the end of `main` with the child in a
//! static), the kernel closes the pipe and the shell kills the child and removes its scratch
//! folder. The kernel's own parent-death signal would not do: it fires when the *thread* that
//! started the child ends, and every test has its own thread.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::deadline;

/// `$1` is the scratch folder or empty, the rest the command. File descriptor 3 is the pipe, 4 and 5
/// are the child's output. A line from the pipe means "kill"; its end means "kill and clean up".
const SUPERVISOR: &str = r#"
scratch=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
echo "$child" >&2
exec >&- 2>&-
( read -r line <&3 && code=0 || code=7; trap '' TERM; kill -KILL "$child"; exit $code ) &
watcher=$!
exec 3<&-
wait "$child"; status=$?
kill -TERM "$watcher"
wait "$watcher"
[ $? -eq 7 ] && [ -n "$scratch" ] && rm -rf -- "$scratch"
exit $status
"#;

/// Where a child writes and what goes with it.
#[derive(Debug)]
pub struct Files<'a> {
    /// Standard output, appended.
    pub stdout: &'a Path,
    /// Standard error, appended; may be the same file.
    pub stderr: &'a Path,
    /// Removed when the test process ends without having ended the child.
    pub scratch: Option<&'a Path>,
}

/// The child. Dropping it kills it.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    shell: Child,
    lifeline: Option<ChildStdin>,
    pid: Pid,
    log: PathBuf,
}

/// How a child ended, as a shell tells it: its exit status, or 128 plus the signal's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(pub i32);

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            code @ ..=128 => write!(f, "exit status {code}"),
            code => write!(f, "signal {}", code - 128),
        }
    }
}

impl Supervised {
    /// Starts `command`; program, arguments, environment and folder are taken from it.
    ///
    /// # Errors
    /// When the shell cannot be started or a file cannot be opened. A program that does not exist
    /// shows as exit code 127.
    pub fn spawn(name: &str, command: &Command, files: &Files<'_>) -> Result<Self> {
        let mut shell = Command::new("/bin/sh");
        // The pid comes back on the shell's standard error, which the child does not get: its own
        // is redirected in the shell's argument.
        shell
            .args(["-c", &with_output(files), "supervisor"])
            .arg(
                files
                    .scratch
                    .map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
            )
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        open_for_append(files.stdout)?;
        open_for_append(files.stderr)?;
        let mut shell = shell
            .spawn()
            .with_context(|| format!("start a shell for {name}"))?;
        let lifeline = shell.stdin.take();
        let mut line = String::new();
        let answer = shell.stderr.take().context("shell has no standard error")?;
        BufReader::new(answer)
            .read_line(&mut line)
            .context("read the child's pid")?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| anyhow!("shell answered {line:?} instead of {name}'s pid"))?;
        Ok(Self {
            name: name.to_owned(),
            shell,
            lifeline,
            pid,
            log: files.stderr.to_owned(),
        })
    }

    /// The child's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the child has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(code) = self.try_wait()? {
            bail!("{} has ended with {code}{}", self.name, self.log_tail());
        }
        kill_process(self.pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// How the child ended, if it has.
    ///
    /// # Errors
    /// When the operating system refuses the question.
    pub fn try_wait(&mut self) -> Result<Option<ExitCode>> {
        let status = self
            .shell
            .try_wait()
            .with_context(|| format!("wait for {}", self.name))?;
        Ok(status.map(|status| ExitCode(status.code().unwrap_or(-1))))
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitCode> {
        let what = format!("the end of {} (pid {})", self.name, self.pid());
        let waited = deadline::wait_for(&what, limit, || self.try_wait());
        waited.map_err(|error| anyhow!("{error:#}{}", self.log_tail()))
    }

    /// SIGKILL, and waits for the end; its scratch folder stays. Also ends a stopped child.
    ///
    /// # Errors
    /// When the child does not end.
    pub fn kill(&mut self) -> Result<ExitCode> {
        if let Some(mut lifeline) = self.lifeline.take() {
            // Fails only when the shell has gone, that is, the child has ended already.
            let _ = lifeline.write_all(b"kill\n");
        }
        self.wait(deadline::PATIENCE)
    }

    /// Waits until `probe` has a value, while the child comes up.
    ///
    /// # Errors
    /// When the child ends, or nothing comes within [`deadline::PATIENCE`]; with the end of its log.
    pub fn wait_ready<T>(&mut self, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
        let what = format!("readiness of {} (pid {})", self.name, self.pid());
        let waited = deadline::wait_for(&what, deadline::PATIENCE, || {
            if let Some(code) = self.try_wait()? {
                bail!("{} has ended with {code}", self.name);
            }
            Ok(probe())
        });
        waited.map_err(|error| anyhow!("{error:#}{}", self.log_tail()))
    }

    /// Fails when the child has ended, with the end of its log.
    ///
    /// # Errors
    /// That it has ended, and how.
    pub fn check_running(&mut self) -> Result<()> {
        match self.try_wait()? {
            None => Ok(()),
            Some(code) => bail!("{} has ended with {code}{}", self.name, self.log_tail()),
        }
    }

    /// The last lines of the child's standard error, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(40)..)
            .unwrap_or_default();
        format!("; the end of {}:\n{}", self.log.display(), tail.join("\n"))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // The owner removes its scratch folder itself. Nothing to report an error to.
        let _ = self.kill();
        if thread::panicking() {
            #[expect(
                clippy::print_stderr,
                reason = "the log goes with its folder: last chance"
            )]
            {
                eprintln!("{}{}", self.name, self.log_tail());
            }
        }
    }
}

/// The supervisor with the child's output redirected to its files.
fn with_output(files: &Files<'_>) -> String {
    let (stdout, stderr) = (quote(files.stdout), quote(files.stderr));
    SUPERVISOR.replacen(
        "\"$@\" 3<&- &",
        &format!("\"$@\" 3<&- >>{stdout} 2>>{stderr} &"),
        1,
    )
}

fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// Creates the file, so that a wrong path fails here and not in the shell.
fn open_for_append(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use rustix::process::Signal;

    use super::{ExitCode, Files, Supervised};
    use crate::deadline::{PATIENCE, wait_for};

    fn start(folder: &Path, script: &str) -> Supervised {
        let log = folder.join("it's a log");
        let files = Files {
            stdout: &log,
            stderr: &log,
            scratch: None,
        };
        Supervised::spawn("the child", Command::new("sh").args(["-c", script]), &files).unwrap()
    }

    fn is_gone(pid: u32) -> bool {
        // A process that was killed and not yet waited for is a zombie, which is gone enough.
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
            stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z"))
        })
    }

    #[test]
    fn exit_status_and_output_are_kept_when_the_child_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), "echo out; echo err >&2; exit 3");
        assert_eq!(child.wait(PATIENCE).unwrap(), ExitCode(3));
        let error = child.check_running().unwrap_err().to_string();
        assert!(error.contains("out\nerr"), "{error}");
    }

    #[test]
    fn child_ends_when_killed_even_if_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), "exec sleep 1000");
        child.signal(Signal::STOP).unwrap();
        assert_eq!(child.kill().unwrap(), ExitCode(128 + 9));
        assert!(is_gone(child.pid()));
    }

    #[test]
    fn child_gets_signals() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(
            folder.path(),
            "trap 'exit 5' TERM; while :; do sleep 0.02; done",
        );
        // The trap may not be set yet when the signal comes: send until it takes effect.
        wait_for("the child's end", Duration::from_secs(60), || {
            if child.try_wait()?.is_none() {
                let _ = child.signal(Signal::TERM);
            }
            child.try_wait()
        })
        .unwrap();
        assert!([ExitCode(5), ExitCode(143)].contains(&child.wait(PATIENCE).unwrap()));
    }

    #[test]
    fn child_and_its_scratch_folder_go_when_the_test_process_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let log = folder.path().join("log");
        let files = Files {
            stdout: &log,
            stderr: &log,
            scratch: Some(&scratch),
        };
        let mut command = Command::new("sleep");
        let child = Supervised::spawn("the child", command.arg("1000"), &files).unwrap();
        let pid = child.pid();
        assert!(!is_gone(pid));
        // What the kernel does when this process dies: it closes the pipe, and nothing else runs.
        let mut child = std::mem::ManuallyDrop::new(child);
        drop(child.lifeline.take());
        child.wait(PATIENCE).unwrap();
        assert!(is_gone(pid));
        assert!(!scratch.exists());
    }
}
