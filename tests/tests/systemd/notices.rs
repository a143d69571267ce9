//! The socket at which a service manager is told how it goes.

use std::io;
use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;
use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::Around;

/// See the module's documentation.
pub(crate) struct Notices {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Notices {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, folder }
    }

    /// Has the product told this one; `watchdog_ms` is the limit of the watchdog.
    pub(crate) fn around(&self, around: Around, watchdog_ms: Option<u64>) -> Around {
        let path = self.folder.path().join("notify");
        let path = path.to_str().unwrap().to_owned();
        let mut environment = around.environment;
        environment.push(("NOTIFY_SOCKET".to_owned(), path));
        environment
            .extend(watchdog_ms.map(|ms| ("WATCHDOG_USEC".to_owned(), (ms * 1000).to_string())));
        Around {
            environment,
            ..around
        }
    }

    /// The next notice, with one assignment a line.
    pub(crate) fn next(&self) -> String {
        self.receive().unwrap()
    }

    fn receive(&self) -> io::Result<String> {
        let mut bytes = [0; 4096];
        let len = self.socket.recv(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    /// The next notice that has a line which `is_right`; it, and those before it.
    pub(crate) fn until(
        &self,
        what: &str,
        is_right: impl Fn(&str) -> bool,
    ) -> (String, Vec<String>) {
        let mut before = Vec::new();
        let found = wait_for(what, PATIENCE, || {
            let notice = self.receive()?;
            let found = notice.lines().any(&is_right);
            match found {
                true => Ok(Some(notice)),
                false => {
                    before.push(notice);
                    Ok(None)
                }
            }
        });
        let found = found.unwrap_or_else(|error| panic!("{error:#}; heard: {before:#?}"));
        (found, before)
    }

    /// Waits for a status that contains this.
    pub(crate) fn status(&self, text: &str) -> String {
        let is_it = |line: &str| line.starts_with("STATUS=") && line.contains(text);
        self.until(&format!("a status with \"{text}\""), is_it).0
    }
}

/// Whether a notice feeds the watchdog.
pub(crate) fn feeds(notice: &str) -> bool {
    notice.lines().any(|line| line == "WATCHDOG=1")
}
