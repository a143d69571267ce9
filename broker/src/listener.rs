//! Listeners: sockets at which clients connect, and the tasks of the connections that came of them.
//!
//! Invariant: whatever accepting a connection fails of, the listener goes on, and does not spin.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use crate::accept_rate::AcceptRate;
use crate::broker::StartError;
use crate::causes::Limit;
use crate::client::{Client, Origin};
use crate::driver::Driver;
use crate::options::ListenerOptions;
use crate::probe::ListenerCounters;
use crate::router::{Router, Stage, now};

/// Connections that the system holds until they are accepted: a whole fleet comes back at once
/// after a power cut.
const BACKLOG: u32 = 1_024;

/// Pause after a connection could not be accepted, for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    door: Door,
}

/// A listener without its socket: who may come in, and where it stands.
#[derive(Debug)]
struct Door {
    options: ListenerOptions,
    address: SocketAddr,
    /// Its place among the listeners.
    index: usize,
}

impl Listener {
    /// Binds the socket, or takes one of `bound` that has the address.
    pub(crate) fn bind(
        index: usize,
        options: ListenerOptions,
        bound: &mut Vec<std::net::TcpListener>,
    ) -> Result<Self, StartError> {
        let bind = options.bind;
        if !bind.ip().to_canonical().is_loopback() && !options.allow_anonymous {
            return Err(StartError::Anonymous { bind });
        }
        let has_address = |socket: &std::net::TcpListener| {
            socket.local_addr().is_ok_and(|address| address == bind)
        };
        let position = bound.iter().position(has_address);
        let bound = position.map(|position| bound.swap_remove(position));
        let listening = || -> io::Result<_> {
            let socket = match bound {
                Some(bound) => take_up(bound)?,
                None => listen_at(bind)?,
            };
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let (socket, address) = listening().map_err(|source| StartError::Bind { bind, source })?;
        let door = Door {
            options,
            address,
            index,
        };
        Ok(Self { socket, door })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// Accepts connections until the broker stops, then waits for them to end.
    pub(crate) async fn serve(self, router: Rc<Router>) {
        let Self { socket, door } = self;
        tracing::info!(address = %door.address, "Listening.");
        let mut connections = JoinSet::new();
        let mut rate = AcceptRate::new(router.options.limits.accept_rate_max);
        let mut waits_until = None;
        loop {
            let pause = tokio::time::sleep_until(waits_until.unwrap_or_else(now).into());
            tokio::select! {
                biased;
                () = router.reached(Stage::Draining) => break,
                Some(ended) = connections.join_next() => {
                    door.handle_ended(&router, &connections, &ended);
                }
                () = pause, if waits_until.is_some() => waits_until = None,
                accepted = socket.accept(), if waits_until.is_none() => match accepted {
                    Ok((stream, peer)) => {
                        door.admit(&router, &mut connections, stream, peer);
                        rate.accepted(now());
                        waits_until = rate.waits_until(now());
                        if waits_until.is_some() {
                            door.count_pause(&router);
                        }
                    }
                    Err(error) => door.handle_accept_error(&router, &error).await,
                },
            }
        }
        // From now on connections are refused by the system, or wait where somebody else holds the socket.
        drop(socket);
        while let Some(ended) = connections.join_next().await {
            door.handle_ended(&router, &connections, &ended);
        }
    }
}

fn listen_at(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = match bind {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for connections of the last run to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)
}

/// How many it holds until they are accepted is up to whoever opened it.
fn take_up(bound: std::net::TcpListener) -> io::Result<TcpListener> {
    bound.set_nonblocking(true)?;
    TcpListener::from_std(bound)
}

impl Door {
    /// Begins the task of a connection, if there is room for it.
    fn admit(
        &self,
        router: &Rc<Router>,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        let connections_max = self.options.connections_max;
        if connections.len() >= connections_max {
            self.count(router, |counters| counters.refused.increment());
            router.counters.limits.add(Limit::ConnectionsMax, 1);
            if let Some(left_out) = router.log_limits.too_many_connections.pass(now()) {
                let address = self.address;
                tracing::warn!(%address, %peer, connections_max, left_out, "Too many connections.");
            }
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            // It works without, only slower; most likely the client is gone already.
            tracing::debug!(%peer, %error, "TCP_NODELAY cannot be set.");
        }
        let connection = router.open_connection();
        let span = tracing::info_span!(
            "connection",
            conn = %connection.id,
            %peer,
            client_id = tracing::field::Empty
        );
        let origin = Origin {
            peer,
            listener: self.address,
            allow_anonymous: self.options.allow_anonymous,
        };
        let client = Client::new(Rc::clone(router), connection, origin);
        connections.spawn_local(Driver::new(client, stream).run().instrument(span));
        self.count(router, |counters| {
            counters.accepted.increment();
            counters.connections.set(connections.len());
        });
    }

    fn handle_ended(
        &self,
        router: &Router,
        connections: &JoinSet<()>,
        ended: &Result<(), JoinError>,
    ) {
        if let Err(error) = ended {
            tracing::error!(%error, "Task of a connection failed; the others go on.");
        }
        self.count(router, |counters| {
            counters.connections.set(connections.len())
        });
    }

    async fn handle_accept_error(&self, router: &Router, error: &io::Error) {
        self.count(router, |counters| counters.accept_errors.increment());
        if let Some(left_out) = router.log_limits.accept.pass(now()) {
            let address = self.address;
            tracing::warn!(%address, %error, left_out, "Connection could not be accepted.");
        }
        let is_of_one_client = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        );
        if !is_of_one_client {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    /// What comes next waits.
    fn count_pause(&self, router: &Router) {
        router.counters.limits.add(Limit::AcceptRateMax, 1);
        if let Some(left_out) = router.log_limits.accept_rate.pass(now()) {
            let (address, accept_rate_max) = (self.address, router.options.limits.accept_rate_max);
            tracing::warn!(%address, accept_rate_max, left_out, "New connections wait.");
        }
    }

    fn count(&self, router: &Router, count: impl FnOnce(&ListenerCounters)) {
        if let Some(counters) = router.counters.listeners.get(self.index) {
            count(counters);
        }
    }
}
