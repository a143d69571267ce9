//! The byte stream to a broker: resolving its name, connecting, socket options.
//!
//! Everything above sees an `AsyncRead + AsyncWrite`; whatever protects the stream belongs here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Socket settings.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// For resolving the name and connecting, all addresses together.
    pub connect_timeout: Duration,
    /// Idle time before the kernel probes whether the peer is still there; probes follow at a third
    /// of it. `None` leaves keep-alive off.
    pub keep_alive: Option<Duration>,
    /// Bytes that the kernel takes beyond what it could send (`TCP_NOTSENT_LOWAT`), so that what
    /// waits can still be reordered by priority. `None` leaves the kernel's default.
    pub notsent_lowat_bytes: Option<u32>,
    /// Whether closing discards what was not sent and resets the connection (`SO_LINGER` 0), so
    /// that no old request can reach the broker after the client has given it up.
    pub reset_on_close: bool,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up
    /// (`TCP_USER_TIMEOUT`). `None` leaves the kernel's default of many minutes.
    pub user_timeout: Option<Duration>,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keep_alive: Some(Duration::from_secs(30)),
            notsent_lowat_bytes: None,
            reset_on_close: true,
            user_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// Why no stream to the broker could be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// Every address of the name refused; the source is the last one's.
    #[error("connect to kafka broker {broker} at {address}")]
    Connect {
        /// As configured.
        broker: Arc<str>,
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The name has no address, or is not `host:port`.
    #[error("resolve kafka broker {broker}")]
    Resolve {
        /// As configured.
        broker: Arc<str>,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Nobody answered in time.
    #[error("connect to kafka broker {broker}: no answer within {} ms", timeout.as_millis())]
    Timeout {
        /// As configured.
        broker: Arc<str>,
        /// The time allowed.
        timeout: Duration,
    },
}

/// Connects to `broker` (`host:port`), trying its addresses in the order of the resolver.
pub(crate) async fn connect(
    broker: &Arc<str>,
    options: &TransportOptions,
) -> Result<TcpStream, TransportError> {
    let deadline = Instant::now() + options.connect_timeout;
    let too_late = || TransportError::Timeout {
        broker: Arc::clone(broker),
        timeout: options.connect_timeout,
    };
    let unresolved = |source| TransportError::Resolve {
        broker: Arc::clone(broker),
        source: Arc::new(source),
    };
    // Never cached: a name may lead elsewhere the next time.
    let addresses: Vec<_> = match timeout_at(deadline, lookup_host(&**broker)).await {
        Ok(found) => found.map_err(unresolved)?.collect(),
        Err(_) => return Err(too_late()),
    };
    let mut last = unresolved(io::Error::new(io::ErrorKind::NotFound, "no address"));
    for (tried, &address) in addresses.iter().enumerate() {
        // One dead address must not use up the time of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let attempt = async {
            let stream = TcpStream::connect(address).await?;
            set_options(&stream, options)?;
            Ok(stream)
        };
        last = match tokio::time::timeout(left / share, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => TransportError::Connect {
                broker: Arc::clone(broker),
                address,
                source: Arc::new(source),
            },
            Err(_) => too_late(),
        };
    }
    Err(last)
}

fn set_options(stream: &TcpStream, options: &TransportOptions) -> io::Result<()> {
    let socket = SockRef::from(stream);
    // Requests are written whole: waiting for more to send would only add delay.
    socket.set_tcp_nodelay(true)?;
    if options.reset_on_close {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    if let Some(idle) = options.keep_alive {
        let probes = TcpKeepalive::new().with_time(idle).with_interval(idle / 3);
        socket.set_tcp_keepalive(&probes.with_retries(3))?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    if let Some(bytes) = options.notsent_lowat_bytes {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    Ok(())
}
