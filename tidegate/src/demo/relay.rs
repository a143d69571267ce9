//! The uplink: a relay on loopback between the gateway's bridge and the cluster, which can be cut,
//! reset, and lose answers. It stands in front of the model and of a real cluster alike.
//!
//! For every broker that the cluster names it listens at an address of its own, and puts that into
//! the cluster's Metadata responses ([`metadata`]), so that the bridge never goes round it.
//!
//! Invariants:
//! - Frames pass whole or not at all; bytes of requests are never changed.
//! - An answer that is lost belongs to a request that the cluster has got.
//! - Frames, brokers and connections are bounded.

mod metadata;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const FRAME_BYTES_MAX: u32 = 64 << 20;
const BROKERS_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 64;
/// Requests of a connection without an answer.
const UNANSWERED_MAX: usize = 4096;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;

/// What every connection looks at.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    is_down: bool,
    /// Counts the resets; when it changes, all connections end.
    resets: u64,
}

#[derive(Debug)]
struct Shared {
    gate: watch::Sender<Gate>,
    /// Answers to Produce requests that are still to be lost.
    answers_to_lose: Cell<u32>,
    answers_lost: watch::Sender<u64>,
    /// Where we listen for each broker.
    brokers: RefCell<BTreeMap<String, SocketAddr>>,
}

/// See the module's documentation. Its tasks end with the `LocalSet` that they run in.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Rc<Shared>,
    address: SocketAddr,
}

/// A request whose answer has not come back.
#[derive(Clone, Copy, Debug)]
struct Request {
    api: i16,
    version: i16,
    correlation_id: i32,
}

type Unanswered = Rc<RefCell<VecDeque<Request>>>;

impl Relay {
    /// Listens for clients of the cluster whose first broker is `bootstrap` (`host:port`).
    ///
    /// # Errors
    /// No port is free.
    pub(super) async fn start(bootstrap: &str) -> io::Result<Self> {
        let shared = Rc::new(Shared {
            gate: watch::Sender::new(Gate::default()),
            answers_to_lose: Cell::new(0),
            answers_lost: watch::Sender::new(0),
            brokers: RefCell::default(),
        });
        let address = listen_for(&shared, bootstrap).await?;
        Ok(Self { shared, address })
    }

    /// Where the bridge is to connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection, and every new one until [`Self::restore`].
    pub(super) fn cut(&self) {
        self.shared.gate.send_modify(|gate| gate.is_down = true);
    }

    /// Ends [`Self::cut`].
    pub(super) fn restore(&self) {
        self.shared.gate.send_modify(|gate| gate.is_down = false);
    }

    /// Resets every connection; new ones are taken.
    pub(super) fn reset(&self) {
        self.shared.gate.send_modify(|gate| gate.resets += 1);
    }

    /// The next answer to a Produce request is lost, and its connection with it.
    pub(super) fn lose_answer(&self) {
        let waiting = &self.shared.answers_to_lose;
        waiting.set(waiting.get().saturating_add(1));
    }

    /// How many answers were lost.
    pub(super) fn lost(&self) -> u64 {
        *self.shared.answers_lost.borrow()
    }

    /// How many answers were lost, as it changes.
    pub(super) fn answers_lost(&self) -> watch::Receiver<u64> {
        self.shared.answers_lost.subscribe()
    }
}

/// Our address for a broker; listens there from now on.
async fn listen_for(shared: &Rc<Shared>, broker: &str) -> io::Result<SocketAddr> {
    if let Some(address) = shared.brokers.borrow().get(broker) {
        return Ok(*address);
    }
    if shared.brokers.borrow().len() >= BROKERS_MAX {
        return Err(io::Error::other("too many brokers"));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let broker = broker.to_owned();
    shared.brokers.borrow_mut().insert(broker.clone(), address);
    tokio::task::spawn_local(accept(listener, broker, Rc::clone(shared)));
    Ok(address)
}

async fn accept(listener: TcpListener, broker: String, shared: Rc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                // What fails here is the client's affair, or passes.
                let Ok((client, _)) = accepted else { continue };
                // Dropped means reset, as by a link that is gone.
                if client.set_zero_linger().is_ok() && !shared.gate.borrow().is_down {
                    connections.spawn_local(serve(client, broker.clone(), Rc::clone(&shared)));
                }
            }
        }
    }
}

/// Relays one connection until a side closes or the gate does.
async fn serve(client: TcpStream, broker: String, shared: Rc<Shared>) {
    let mut gate = shared.gate.subscribe();
    let resets = gate.borrow_and_update().resets;
    let closed = gate.wait_for(|gate| gate.is_down || gate.resets != resets);
    let relayed = async {
        let server = TcpStream::connect(&broker).await?;
        server.set_zero_linger()?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let unanswered = Unanswered::default();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // The first end is the end: dropping the halves resets both sides.
        tokio::select! {
            result = pass_requests(from_client, to_server, &unanswered) => result,
            result = pass_answers(from_server, to_client, &unanswered, &shared) => result,
        }
    };
    // Why it ended is the business of the two ends, which notice.
    tokio::select! {
        _ = closed => {}
        _ = relayed => {}
    }
}

async fn pass_requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    unanswered: &Unanswered,
) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut from).await?;
        let request = request_header(&frame).ok_or_else(unexpected)?;
        if unanswered.borrow().len() >= UNANSWERED_MAX {
            return Err(unexpected());
        }
        unanswered.borrow_mut().push_back(request);
        write_frame(&mut to, &frame).await?;
    }
}

async fn pass_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    unanswered: &Unanswered,
    shared: &Rc<Shared>,
) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut from).await?;
        // Answers come in the order of the requests.
        let request = unanswered.borrow_mut().pop_front();
        let request =
            request.filter(|request| frame.starts_with(&request.correlation_id.to_be_bytes()));
        let request = request.ok_or_else(unexpected)?;
        let to_lose = shared.answers_to_lose.get();
        if request.api == PRODUCE && to_lose > 0 {
            shared.answers_to_lose.set(to_lose - 1);
            shared.answers_lost.send_modify(|count| *count += 1);
            return Ok(());
        }
        if request.api == METADATA {
            let frame = redirect(&frame, request.version, shared).await?;
            write_frame(&mut to, &frame).await?;
        } else {
            write_frame(&mut to, &frame).await?;
        }
    }
}

/// A Metadata response that names our addresses instead of the brokers'.
async fn redirect(frame: &[u8], version: i16, shared: &Rc<Shared>) -> io::Result<Vec<u8>> {
    let named = metadata::brokers(frame, version).ok_or_else(unexpected)?;
    let mut ours = Vec::with_capacity(named.brokers.len());
    for broker in &named.brokers {
        ours.push(listen_for(shared, &broker.address()).await?);
    }
    named.with_addresses(frame, &ours).ok_or_else(unexpected)
}

/// The fixed part of a request's header.
fn request_header(frame: &[u8]) -> Option<Request> {
    let (api, rest) = frame.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    let correlation_id = rest.first_chunk()?;
    Some(Request {
        api: i16::from_be_bytes(*api),
        version: i16::from_be_bytes(*version),
        correlation_id: i32::from_be_bytes(*correlation_id),
    })
}

async fn read_frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    if length > FRAME_BYTES_MAX {
        return Err(unexpected());
    }
    // Grows as bytes arrive, whatever the length says.
    let mut frame = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut frame).await?;
    if u32::try_from(frame.len()) != Ok(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| unexpected())?;
    let mut whole = Vec::with_capacity(4 + frame.len());
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(frame);
    to.write_all(&whole).await
}

fn unexpected() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
