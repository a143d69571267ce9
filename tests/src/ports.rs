//! Free loopback ports that stay free while their owner is dead.
//!
//! A port from `bind(0)` lies in the range from which the kernel takes the near ends of outgoing
//! connections, so that it may be gone when a killed server comes back. These lie below that range
//! and no two callers in a process get the same one.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// Below Linux' default range for outgoing connections (32768-60999).
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback TCP port that nobody listens on and that no other caller was given.
///
/// # Errors
/// When no free port is found in a thousand tries.
pub fn free() -> Result<u16> {
    let mut guard = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = guard.get_or_insert_default();
    for _ in 0..1000 {
        let port = random_port();
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return Ok(port);
        }
    }
    bail!("no free loopback port found in {FIRST}-{}", FIRST + COUNT);
}

/// Random rather than counted, because several test processes look for ports at the same time.
fn random_port() -> u16 {
    let random = RandomState::new().build_hasher().finish();
    FIRST + u16::try_from(random % u64::from(COUNT)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, TcpListener};

    use super::free;

    #[test]
    fn ports_are_distinct_and_can_be_bound() {
        let ports: HashSet<u16> = (0..200).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 200);
        for port in ports.into_iter().take(20) {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
