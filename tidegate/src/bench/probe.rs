//! One plain MQTT 3.1.1 connection, in bytes: finds out when a broker answers, makes a session that
//! stays, and lets a broker send a known number of bytes.
//!
//! Not for load: that is [`super::load`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// CONNECT: MQTT, level 4, clean session, keep alive of 600 s, client id `bench`.
const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x02\x58\x00\x05bench";
/// The same without a clean session, and with another client id: `stays`.
const CONNECT_TO_STAY: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x00\x02\x58\x00\x05stays";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// SUBSCRIBE: packet id 1, filter `bench/#`, QoS 1.
const SUBSCRIBE: &[u8] = b"\x82\x0c\x00\x01\x00\x07bench/#\x01";
const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 1];
const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Probe {
    stream: TcpStream,
}

impl Probe {
    /// Connects, with CONNACK.
    ///
    /// # Errors
    /// Nobody listens, or the broker does not accept the connection.
    pub(super) async fn connect(broker: SocketAddr) -> io::Result<Self> {
        Self::begin(broker, CONNECT).await
    }

    /// Leaves a session behind that gets every message of QoS 1 under `bench/`.
    ///
    /// # Errors
    /// The broker does not answer as it should.
    pub(super) async fn leave_session(broker: SocketAddr) -> io::Result<()> {
        let mut probe = Self::begin(broker, CONNECT_TO_STAY).await?;
        probe.stream.write_all(SUBSCRIBE).await?;
        probe.expect(&SUBACK).await?;
        probe.stream.write_all(&DISCONNECT).await
    }

    async fn begin(broker: SocketAddr, connect: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        let mut probe = Self { stream };
        probe.stream.write_all(connect).await?;
        probe.expect(&CONNACK).await?;
        Ok(probe)
    }

    /// Lets the broker send `count` times two bytes.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn ping(&mut self, count: usize) -> io::Result<()> {
        self.stream.write_all(&PINGREQ.repeat(count)).await?;
        self.expect(&PINGRESP.repeat(count)).await
    }

    async fn expect(&mut self, expected: &[u8]) -> io::Result<()> {
        let mut answer = vec![0; expected.len()];
        let read = self.stream.read_exact(&mut answer);
        timeout(ANSWER_LIMIT, read)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        if answer != expected {
            return Err(io::Error::other(format!(
                "the broker answered {answer:02x?} instead of {expected:02x?}"
            )));
        }
        Ok(())
    }
}
