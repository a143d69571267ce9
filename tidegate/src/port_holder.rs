//! Who holds a port, so that "address in use" can name the process to look at.
//!
//! Linux only: sockets from /proc/net, processes from /proc/PID/fd. What cannot be read (another
//! user's process) is left out.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// The process that listens on `address`, as text, if it can be found.
pub(crate) fn holder(address: SocketAddr) -> Option<String> {
    let inodes = listening_inodes(address.port());
    for entry in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        if has_socket(&entry.path(), &inodes) {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim()));
        }
    }
    None
}

/// Inodes of the sockets that listen on this port, on any address.
fn listening_inodes(port: u16) -> Vec<String> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, ..] = fields[..] else {
                continue;
            };
            let local_port = local
                .rsplit(':')
                .next()
                .and_then(|p| u16::from_str_radix(p, 16).ok());
            if state == LISTEN && local_port == Some(port) {
                inodes.extend(fields.get(9).map(|inode| (*inode).to_owned()));
            }
        }
    }
    inodes
}

fn has_socket(process: &Path, inodes: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors.filter_map(Result::ok).any(|descriptor| {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|known| known == inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn holder_of_a_port_is_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let expected = format!("process {} (", std::process::id());
        assert!(holder(address).unwrap().starts_with(&expected));
        drop(listener);
        assert_eq!(holder(address), None);
    }
}
