//! Commands in the guest, and files into it: a connection for each, to a small shell that systemd starts.
//!
//! The first line of the connection is the command, the rest its input; the last line of the answer
//! says how it ended.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::deadline;

use crate::machine::{BOOT_PATIENCE, Machine};

/// Longest silence of a command.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Longest silence of a guest that may still be booting.
const PROBE_SILENCE_MAX: Duration = Duration::from_secs(10);
/// Begins the last line.
const LAST_LINE: &str = "\nended with ";

/// The way into the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    shell: SocketAddr,
}

impl Guest {
    pub(crate) fn new(shell: SocketAddr) -> Self {
        Self { shell }
    }

    /// Waits until commands can be run.
    ///
    /// # Errors
    /// When the machine ends, or does not come so far.
    pub(crate) fn wait(self, machine: &mut Machine) -> Result<()> {
        let up = deadline::wait_for("the guest to take commands", BOOT_PATIENCE, || {
            machine.check()?;
            let answer = self.exchange("true", &[], PROBE_SILENCE_MAX);
            if answer.is_err() {
                // Nobody listens there yet: the emulator takes connections all the same.
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(answer.ok())
        });
        up.with_context(|| format!("console: {}", machine.console_tail()))?;
        Ok(())
    }

    /// Runs a command, which is one line; what it printed, of both outputs.
    ///
    /// # Errors
    /// When it fails, or the guest falls silent.
    pub(crate) fn run(self, command: &str) -> Result<String> {
        self.run_with(command, &[])
    }

    /// The same with an input.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub(crate) fn run_with(self, command: &str, input: &[u8]) -> Result<String> {
        let (text, status) = self.try_run(command, input)?;
        ensure!(
            status == 0,
            "in the guest, {command:?} ended with {status}; it printed:\n{}",
            crate::programs::tail(&text)
        );
        Ok(text)
    }

    /// Runs a command; what it printed, and its exit status.
    ///
    /// # Errors
    /// When the guest falls silent or is gone.
    pub(crate) fn try_run(self, command: &str, input: &[u8]) -> Result<(String, i32)> {
        let answer = self.exchange(command, input, SILENCE_MAX);
        answer.with_context(|| format!("in the guest: {command}"))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub(crate) fn write(self, path: &str, content: &[u8]) -> Result<()> {
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        self.run_with(&format!("mkdir -p '{folder}' && cat > '{path}'"), content)?;
        Ok(())
    }

    fn exchange(self, command: &str, input: &[u8], silence: Duration) -> Result<(String, i32)> {
        ensure!(!command.contains('\n'), "a command of two lines");
        let mut stream = TcpStream::connect(self.shell).context("connect to the guest")?;
        stream
            .set_read_timeout(Some(silence))
            .context("set a time limit")?;
        stream
            .set_write_timeout(Some(silence))
            .context("set a time limit")?;
        let line = format!("{command}\n");
        stream
            .write_all(line.as_bytes())
            .context("send a command")?;
        stream.write_all(input).context("send its input")?;
        stream.shutdown(Shutdown::Write).context("end its input")?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).context("read its output")?;
        let text = String::from_utf8_lossy(&bytes);
        let Some((text, status)) = text.rsplit_once(LAST_LINE) else {
            bail!("the guest was gone before the command had ended; it printed: {text}");
        };
        Ok((
            text.to_owned(),
            status.trim().parse().context("an exit status")?,
        ))
    }
}
