//! `run/addresses.json` in the data folder: where the running process listens, for scripts and
//! tests that let it choose free ports. Written when the listeners accept, removed at the end.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

#[derive(Serialize)]
struct Addresses {
    listeners: Vec<Listener>,
    admin: Option<SocketAddr>,
    pid: u32,
}

#[derive(Serialize)]
struct Listener {
    kind: &'static str,
    address: SocketAddr,
}

/// The file; removed when dropped.
#[derive(Debug)]
pub(crate) struct AddressesFile {
    path: PathBuf,
}

impl AddressesFile {
    /// Writes where the process listens.
    pub(crate) fn write(
        data: &Path,
        mqtt: &[SocketAddr],
        admin: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let folder = data.join("run");
        // A data folder that is not there is not begun by this.
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let listeners = mqtt.iter().map(|address| Listener {
            kind: "mqtt",
            address: *address,
        });
        let addresses = Addresses {
            listeners: listeners.collect(),
            admin,
            pid: std::process::id(),
        };
        let path = folder.join("addresses.json");
        // Whole or not at all: somebody may be waiting for it.
        let temporary = folder.join("addresses.json.new");
        fs::write(&temporary, serde_json::to_vec(&addresses)?)?;
        fs::rename(&temporary, &path)?;
        Ok(Self { path })
    }
}

impl Drop for AddressesFile {
    fn drop(&mut self) {
        // If it stays, its process id tells that it is stale.
        let _ = fs::remove_file(&self.path);
    }
}
