//! Sockets that the service manager has opened for us and keeps open while we start again, so that clients
//! wait meanwhile and are not refused (systemd.socket(5), sd_listen_fds(3)).
//!
//! A socket belongs to the listener with the same address; its name (`FileDescriptorName=`) only tells
//! people which one is meant. Invariant: whatever is passed and not used is told, with what would be right; a
//! TCP socket that no listener has ends the process, since whoever connected there would wait for ever.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, anyhow};
use rustix::net::{SocketType, sockopt};

use super::sys;
use crate::exit::{Failure, Status};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct PassedSockets {
    tcp: Vec<Passed<TcpListener>>,
    /// Kept for listeners of QUIC, of which there are none yet: a socket that is closed would be
    /// opened anew, and lose what lies in it.
    udp: Vec<Passed<UdpSocket>>,
}

#[derive(Debug)]
struct Passed<S> {
    name: String,
    address: SocketAddr,
    socket: S,
}

impl<S> fmt::Display for Passed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` at {}", self.name, self.address)
    }
}

impl PassedSockets {
    /// Takes what was passed to this process; nothing without a service manager. To be called once, before
    /// anything is opened.
    pub(super) fn take() -> Result<Self, Failure> {
        let passed = sd_notify::listen_fds_with_names().map_err(|error| {
            refused(anyhow!(error).context(
                "LISTEN_FDS, LISTEN_FDNAMES: sockets were passed in a way that is not understood",
            ))
        })?;
        let mut sockets = Self::default();
        for (descriptor, name) in passed {
            let socket = sys::own_passed(descriptor);
            let what = format!("descriptor {descriptor}, passed as `{name}`");
            sockets
                .add(name, socket)
                .with_context(|| what)
                .map_err(refused)?;
        }
        Ok(sockets)
    }

    fn add(&mut self, name: String, socket: OwnedFd) -> anyhow::Result<()> {
        const ALLOWED: &str = "allowed: a TCP socket that listens (ListenStream=ADDRESS:PORT with \
                               Accept=no), a UDP socket (ListenDatagram=ADDRESS:PORT)";
        let kind = sockopt::socket_type(&socket).context(ALLOWED)?;
        let address = rustix::net::getsockname(&socket)?;
        let address = SocketAddr::try_from(address)
            .map_err(|_| anyhow!("found a socket without an IP address; {ALLOWED}"))?;
        match kind {
            SocketType::STREAM if sockopt::socket_acceptconn(&socket)? => self.tcp.push(Passed {
                name,
                address,
                socket: socket.into(),
            }),
            SocketType::DGRAM => self.udp.push(Passed {
                name,
                address,
                socket: socket.into(),
            }),
            _ => {
                return Err(anyhow!(
                    "found a socket at {address} that does not listen; {ALLOWED}"
                ));
            }
        }
        Ok(())
    }

    /// Sees that the listeners at `binds` want what was passed.
    pub(super) fn check(&self, binds: &[SocketAddr]) -> Result<(), Failure> {
        for passed in &self.udp {
            tracing::warn!(
                name = passed.name,
                address = %passed.address,
                "A UDP socket was passed, which no listener wants: there is none of QUIC. It is kept, and \
                 nobody reads from it. Remove its ListenDatagram."
            );
        }
        for passed in &self.tcp {
            if !binds.contains(&passed.address) {
                let binds: Vec<_> = binds.iter().map(ToString::to_string).collect();
                return Err(refused(anyhow!(
                    "the socket {passed} was passed and no listener has it: who connects there would \
                     wait for ever; allowed: the `bind` of a [[listener]], that is {}",
                    binds.join(", ")
                )));
            }
            tracing::info!(name = passed.name, address = %passed.address, "A socket was passed.");
        }
        Ok(())
    }

    /// The sockets to listen at, for a broker that may not be the last one.
    pub(super) fn listening(&self) -> io::Result<Vec<TcpListener>> {
        self.tcp
            .iter()
            .map(|passed| passed.socket.try_clone())
            .collect()
    }
}

/// It is what the unit says that is wrong, and starting again changes nothing.
fn refused(error: anyhow::Error) -> Failure {
    Failure::with(Status::Configuration, error)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn add(sockets: &mut PassedSockets, socket: impl Into<OwnedFd>) -> Result<(), String> {
        let added = sockets.add("mqtt".to_owned(), socket.into());
        added.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn socket_belongs_to_the_listener_with_its_address() {
        let mut sockets = PassedSockets::default();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        add(&mut sockets, tcp).unwrap();
        let other = SocketAddr::from(([127, 0, 0, 1], 1));
        sockets.check(&[other, address]).unwrap();
        // As often as a broker begins.
        for _ in 0..2 {
            let [listening] = <[_; 1]>::try_from(sockets.listening().unwrap()).unwrap();
            assert_eq!(listening.local_addr().unwrap(), address);
        }
        let failure = sockets.check(&[other]).unwrap_err();
        assert_eq!(failure.status(), Status::Configuration);
        let text = failure.to_string();
        let wanted = format!("`mqtt` at {address}");
        assert!(
            text.contains(&wanted) && text.contains("127.0.0.1:1"),
            "{text}"
        );
    }

    #[test]
    fn udp_socket_is_kept_although_nobody_wants_it() {
        let mut sockets = PassedSockets::default();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        add(&mut sockets, udp).unwrap();
        sockets.check(&[]).unwrap();
        assert!(sockets.listening().unwrap().is_empty());
        UdpSocket::bind(address).unwrap_err();
    }

    #[test]
    fn what_nobody_can_listen_at_is_refused() {
        let mut sockets = PassedSockets::default();
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("s")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let refused = |added: Result<(), String>, found: &str| {
            let text = added.unwrap_err();
            assert!(
                text.contains(found) && text.contains("allowed: a TCP"),
                "{text}"
            );
        };
        refused(add(&mut sockets, unix), "without an IP address");
        refused(add(&mut sockets, connected), "does not listen");
        refused(add(&mut sockets, file), "Socket");
    }
}
