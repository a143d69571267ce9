//! Debian's mosquitto: its command line clients as independent MQTT clients, its broker as the one
//! to compare with.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::supervised::{Files, Supervised};
use crate::{ports, program};

/// The paths of `mosquitto_pub` and `mosquitto_sub`, or the reason for a skip.
///
/// # Errors
/// When they are not installed.
pub fn clients() -> Result<(PathBuf, PathBuf), String> {
    let find = |name| program::require(name, "mosquitto-clients");
    Ok((find("mosquitto_pub")?, find("mosquitto_sub")?))
}

/// The path of the broker, or the reason for a skip.
///
/// # Errors
/// When it is not installed.
pub fn available() -> Result<PathBuf, String> {
    program::require("mosquitto", "mosquitto")
}

/// A running mosquitto broker. Dropping it kills it and removes its files.
#[derive(Debug)]
pub struct Mosquitto {
    address: SocketAddr,
    process: Supervised,
    scratch: TempDir,
}

impl Mosquitto {
    /// Starts it on a free loopback port, open to everybody; `configuration` is appended to its
    /// configuration file (`{data}` there is its folder).
    ///
    /// # Errors
    /// When it is not installed or does not come up, with the end of its log.
    pub fn start(configuration: &str) -> Result<Self> {
        let program = available().map_err(|reason| anyhow!(reason))?;
        let scratch = tempfile::Builder::new()
            .prefix("tidegate-mosquitto-")
            .tempdir();
        let scratch = scratch.context("create mosquitto's temporary folder")?;
        let port = ports::free()?;
        let file = scratch.path().join("mosquitto.conf");
        // As root it would change to a user who cannot write here.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n\
             persistence_location {data}/\n{configuration}\n",
            data = scratch.path().display(),
        );
        let text = text.replace("{data}", &scratch.path().to_string_lossy());
        fs::write(&file, text).context("write mosquitto's configuration")?;
        let log = scratch.path().join("mosquitto.log");
        let files = Files {
            stdout: &log,
            stderr: &log,
            scratch: Some(scratch.path()),
        };
        let mut command = Command::new(program);
        let mut process = Supervised::spawn("mosquitto", command.arg("-c").arg(&file), &files)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process.wait_ready(|| TcpStream::connect(address).ok())?;
        Ok(Self {
            address,
            process,
            scratch,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id, for `/proc`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.scratch.path()
    }
}
