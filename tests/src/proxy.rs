//! A TCP relay on loopback that plays a bad link: cut, slow, silent, down.
//!
//! For Kafka the advertised port must be the relay's, or clients go round it after the first
//! answer: take [`Proxy::start`] first, then give its port to
//! [`crate::kafka::Options::advertised_port`] and the node's to [`Proxy::set_target`].

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_linger;

use crate::ports;

const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Chunks held back per direction and connection; then the sender feels it, as on a real link.
const CHUNKS_MAX: usize = 64;

/// How long a thread sleeps or blocks at most before it looks whether its connection is dead.
const NAP: Duration = Duration::from_millis(50);

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flow {
    /// Both directions.
    #[default]
    Open,
    /// Requests reach the server, its answers are held back.
    RepliesHeld,
    /// Nothing moves; connections stay open.
    Blocked,
}

#[derive(Debug)]
struct Link {
    target: SocketAddr,
    flow: Flow,
    delay: Duration,
    down: bool,
    closed: bool,
    connections: Vec<Weak<Connection>>,
}

/// A relayed connection; the sockets close when the last of its four threads lets go of it.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    dead: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    link: Mutex<Link>,
    changed: Condvar,
    to_server_bytes: AtomicU64,
    to_client_bytes: AtomicU64,
}

/// The relay. Dropping it resets every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports::free()?));
        let listener = listener.context("bind the proxy")?;
        let address = listener.local_addr().context("the proxy's address")?;
        let link = Link {
            target,
            flow: Flow::Open,
            delay: Duration::ZERO,
            down: false,
            closed: false,
            connections: Vec::new(),
        };
        let shared = Arc::new(Shared {
            link: Mutex::new(link),
            changed: Condvar::new(),
            to_server_bytes: AtomicU64::new(0),
            to_client_bytes: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.change(|link| link.target = target);
    }

    /// Resets every open connection; what was under way is lost. New ones are taken.
    pub fn cut(&self) {
        self.change(Link::reset_all);
    }

    /// Resets every open connection and every new one until [`Proxy::up`].
    pub fn down(&self) {
        self.change(|link| {
            link.down = true;
            link.reset_all();
        });
    }

    /// Ends [`Proxy::down`].
    pub fn up(&self) {
        self.change(|link| link.down = false);
    }

    /// Nothing moves any more in either direction, connections stay open, new ones are taken and
    /// stay silent; until [`Proxy::unblock`].
    pub fn block(&self) {
        self.change(|link| link.flow = Flow::Blocked);
    }

    /// Requests still reach the server, its answers stay here; until [`Proxy::unblock`]. A
    /// [`Proxy::cut`] now loses the answers to requests that took effect.
    pub fn hold_replies(&self) {
        self.change(|link| link.flow = Flow::RepliesHeld);
    }

    /// Ends [`Proxy::block`] and [`Proxy::hold_replies`]; what was held back is delivered.
    pub fn unblock(&self) {
        self.change(|link| link.flow = Flow::Open);
    }

    /// Delivers everything this much later, in each direction; the rate stays what it was.
    pub fn delay(&self, delay: Duration) {
        self.change(|link| link.delay = delay);
    }

    /// Bytes that were passed on to the server so far.
    #[must_use]
    pub fn to_server_bytes(&self) -> u64 {
        self.shared.to_server_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that were passed on to clients so far.
    #[must_use]
    pub fn to_client_bytes(&self) -> u64 {
        self.shared.to_client_bytes.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Link)) {
        change(&mut self.shared.link());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|link| {
            link.closed = true;
            link.reset_all();
        });
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Link {
    fn reset_all(&mut self) {
        for connection in self.connections.drain(..).filter_map(|weak| weak.upgrade()) {
            connection.reset();
        }
    }

    fn holds(&self, direction: Direction) -> bool {
        match self.flow {
            Flow::Open => false,
            Flow::RepliesHeld => direction == Direction::ToClient,
            Flow::Blocked => true,
        }
    }
}

impl Connection {
    /// Ends the connection with a reset on both sides: what is in its buffers is dropped. Shutting
    /// down the sending half would say an orderly end first, so the threads are told to let go.
    fn reset(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            // Both fail only when the connection has gone already.
            let _ = set_socket_linger(stream, Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn source(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::ToServer => &self.client,
            Direction::ToClient => &self.server,
        }
    }

    fn sink(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::ToServer => &self.server,
            Direction::ToClient => &self.client,
        }
    }
}

impl Shared {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a chunk that arrived then may pass; `false` when the connection is dead.
    fn wait_passable(
        &self,
        connection: &Connection,
        direction: Direction,
        arrived: Instant,
    ) -> bool {
        let mut link = self.link();
        loop {
            if connection.is_dead() || link.closed {
                return false;
            }
            let left = link.delay.saturating_sub(arrived.elapsed());
            if !link.holds(direction) && left.is_zero() {
                return true;
            }
            let nap = if link.holds(direction) {
                NAP
            } else {
                left.min(NAP)
            };
            let woken = self.changed.wait_timeout(link, nap);
            link = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let link = shared.link();
        if link.closed {
            return;
        }
        if link.down {
            // Closes with a reset.
            let _ = set_socket_linger(&client, Some(Duration::ZERO));
            continue;
        }
        let target = link.target;
        drop(link);
        let shared = Arc::clone(shared);
        // An error means that the server is not there: the client sees its connection end.
        thread::spawn(move || relay(client, target, &shared));
    }
}

fn relay(client: TcpStream, target: SocketAddr, shared: &Arc<Shared>) -> std::io::Result<()> {
    let server = TcpStream::connect(target)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(NAP))?;
    }
    let connection = Arc::new(Connection {
        client,
        server,
        dead: AtomicBool::new(false),
    });
    let mut link = shared.link();
    link.connections.retain(|weak| weak.strong_count() > 0);
    link.connections.push(Arc::downgrade(&connection));
    drop(link);
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let (reading, writing) = (Arc::clone(&connection), Arc::clone(&connection));
        let shared = Arc::clone(shared);
        thread::spawn(move || read_chunks(&reading, direction, &sender));
        thread::spawn(move || write_chunks(&writing, direction, &receiver, &shared));
    }
    Ok(())
}

fn read_chunks(connection: &Connection, direction: Direction, to: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK_BYTES_MAX];
    while let Ok(len @ 1..) = connection.source(direction).read(&mut buffer) {
        let chunk = buffer.get(..len).unwrap_or_default().to_vec();
        if to.send((Instant::now(), chunk)).is_err() {
            break;
        }
    }
}

fn write_chunks(
    connection: &Connection,
    direction: Direction,
    from: &Receiver<(Instant, Vec<u8>)>,
    shared: &Shared,
) {
    let counter = match direction {
        Direction::ToServer => &shared.to_server_bytes,
        Direction::ToClient => &shared.to_client_bytes,
    };
    while let Ok((arrived, chunk)) = from.recv() {
        if !shared.wait_passable(connection, direction, arrived)
            || !write_all(connection, direction, &chunk)
        {
            break;
        }
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    if !connection.is_dead() {
        // One side has ended its sending: tell the other. Fails only when it has gone.
        let _ = connection.sink(direction).shutdown(Shutdown::Write);
    }
}

/// Writes with a short timeout, so that a reset is seen although the receiver reads nothing.
fn write_all(connection: &Connection, direction: Direction, mut chunk: &[u8]) -> bool {
    while !chunk.is_empty() && !connection.is_dead() {
        match connection.sink(direction).write(chunk) {
            Ok(len) => chunk = chunk.get(len..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    chunk.is_empty()
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::Proxy;

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reading = stream.unwrap();
                let mut writing = reading.try_clone().unwrap();
                thread::spawn(move || std::io::copy(&mut reading, &mut writing));
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    fn round_trip(stream: &mut TcpStream, byte: u8) {
        stream.write_all(&[byte]).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [byte]);
    }

    fn is_silent(stream: &TcpStream) -> bool {
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let error = (&*stream).read(&mut [0]).unwrap_err();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        error.kind() == ErrorKind::WouldBlock
    }

    fn is_reset(stream: &mut TcpStream) -> bool {
        stream
            .read(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    #[test]
    fn everything_arrives_and_ends_in_order_when_the_link_is_good() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut sending = stream.try_clone().unwrap();
        let expected = sent.clone();
        thread::spawn(move || {
            sending.write_all(&sent).unwrap();
            sending.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == expected);
        assert_eq!(proxy.to_server_bytes(), 3_000_000);
    }

    #[test]
    fn connections_are_reset_when_the_link_is_cut_and_new_ones_work() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        round_trip(&mut stream, 1);
        proxy.cut();
        assert!(is_reset(&mut stream));
        round_trip(&mut connect(&proxy), 2);
    }

    #[test]
    fn new_connections_are_reset_while_the_link_is_down() {
        let proxy = Proxy::start(echo()).unwrap();
        proxy.down();
        assert!(is_reset(&mut connect(&proxy)));
        proxy.up();
        round_trip(&mut connect(&proxy), 3);
    }

    #[test]
    fn nothing_moves_while_blocked_and_everything_after() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        round_trip(&mut stream, 4);
        proxy.block();
        stream.write_all(&[5]).unwrap();
        assert!(is_silent(&stream));
        assert_eq!(proxy.to_server_bytes(), 1);
        proxy.unblock();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [5]);
    }

    #[test]
    fn requests_pass_and_answers_are_lost_when_cut_while_replies_are_held() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        proxy.hold_replies();
        stream.write_all(&[6]).unwrap();
        assert!(is_silent(&stream));
        assert_eq!(proxy.to_server_bytes(), 1);
        proxy.cut();
        assert!(is_reset(&mut stream));
        proxy.unblock();
        assert_eq!(proxy.to_client_bytes(), 0);
    }

    #[test]
    fn answers_come_no_earlier_than_the_delay() {
        let proxy = Proxy::start(echo()).unwrap();
        proxy.delay(Duration::from_millis(100));
        let mut stream = connect(&proxy);
        let start = Instant::now();
        round_trip(&mut stream, 7);
        assert!(start.elapsed() >= Duration::from_millis(200));
    }
}
