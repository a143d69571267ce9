//! An MQTT client that sends what it is told, right or wrong.
//!
//! Written by hand, apart from the product's codec, so that the product is not judged by itself. It
//! blocks and answers nothing on its own. A client that keeps its session and holds the server to the
//! standard is [`kept`], many of them on one thread are a [`crowd`].

pub mod crowd;
pub mod kept;
pub mod packet;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::deadline;
pub use packet::{Connect, Packet, Properties, Property, Publish, Subscribe, Version, Will};

/// A packet above this is not one that a test asks for.
const PACKET_BYTES_MAX: usize = 64 << 20;

/// The reason code of an acceptance, in both versions.
pub const SUCCESS: u8 = 0;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    received: Vec<u8>,
    /// How much of `received` was handed out.
    taken: usize,
}

/// What a client that waits for a packet gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A packet.
    Packet(Packet),
    /// The server has closed or reset the connection.
    End,
    /// Nothing came in the time that was given.
    Nothing,
}

impl Client {
    /// A connection on which nothing was sent yet.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(server: SocketAddr, version: Version) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, deadline::PATIENCE)
            .with_context(|| format!("connect to the broker at {server}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let patience = Some(deadline::PATIENCE);
        stream
            .set_write_timeout(patience)
            .context("set write timeout")?;
        Ok(Self {
            stream,
            version,
            received: Vec::new(),
            taken: 0,
        })
    }

    /// Connects and sends CONNECT; the answer whatever it says.
    ///
    /// # Errors
    /// When nobody listens there, or something else than CONNACK comes.
    pub fn try_connect(server: SocketAddr, connect: &Connect) -> Result<(Self, Packet)> {
        let mut client = Self::open(server, connect.version)?;
        client.send(&connect.encode())?;
        match client.receive()? {
            Some(connack @ Packet::Connack { .. }) => Ok((client, connack)),
            other => bail!("{other:?} in the place of CONNACK"),
        }
    }

    /// Connects and expects to be accepted.
    ///
    /// # Errors
    /// As [`Client::try_connect`], or when the server refuses.
    pub fn connect(server: SocketAddr, connect: &Connect) -> Result<Self> {
        let (client, connack) = Self::try_connect(server, connect)?;
        match connack {
            Packet::Connack { code: SUCCESS, .. } => Ok(client),
            refused => bail!("{refused:?} for client {}", connect.client_id),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone, or the server takes nothing for too long.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("write to the broker")
    }

    /// Sends a PUBLISH: QoS 1 with a packet identifier, QoS 0 without.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn publish(&mut self, topic: &str, payload: &[u8], packet_id: Option<u16>) -> Result<()> {
        let publish = Publish {
            packet_id,
            ..Publish::new(topic, payload)
        };
        self.send(&publish.encode(self.version))
    }

    /// Publishes with QoS 1 and waits for the acknowledgement; its reason code.
    ///
    /// # Errors
    /// As [`Client::send`], or when something else than its PUBACK comes.
    pub fn publish_acknowledged(&mut self, publish: Publish) -> Result<u8> {
        let publish = Publish {
            packet_id: Some(1),
            ..publish
        };
        self.send(&publish.encode(self.version))?;
        match self.receive()? {
            Some(Packet::Puback { packet_id: 1, code }) => Ok(code),
            other => bail!("{other:?} in the place of PUBACK"),
        }
    }

    /// Subscribes to one filter with QoS 1; the reason code of the SUBACK.
    ///
    /// # Errors
    /// As [`Client::send`], or when something else than SUBACK comes.
    pub fn subscribe(&mut self, filter: &str) -> Result<u8> {
        self.send(&Subscribe::new(filter).encode(self.version))?;
        match self.receive()? {
            Some(Packet::Suback { codes, .. }) => codes.first().copied().context("empty SUBACK"),
            other => bail!("{other:?} in the place of SUBACK"),
        }
    }

    /// Sends PINGREQ and waits for its answer; what came before it. By then everything that was
    /// sent before was worked off.
    ///
    /// # Errors
    /// When the connection ends instead.
    pub fn ping(&mut self) -> Result<Vec<Packet>> {
        self.send(&packet::PINGREQ)?;
        let mut before = Vec::new();
        loop {
            match self.receive()? {
                Some(Packet::Pingresp) => return Ok(before),
                Some(packet) => before.push(packet),
                None => bail!("the connection ended in the place of PINGRESP; before: {before:?}"),
            }
        }
    }

    /// The next message; one of QoS 1 is acknowledged.
    ///
    /// # Errors
    /// When something else comes.
    pub fn receive_publish(&mut self) -> Result<Publish> {
        match self.receive()? {
            Some(Packet::Publish(publish)) => {
                if let Some(packet_id) = publish.packet_id {
                    self.send(&packet::puback(packet_id))?;
                }
                Ok(publish)
            }
            other => bail!("{other:?} in the place of PUBLISH"),
        }
    }

    /// The next packet, `None` when the server has ended the connection.
    ///
    /// # Errors
    /// When nothing comes for [`deadline::PATIENCE`], or what comes is no packet.
    pub fn receive(&mut self) -> Result<Option<Packet>> {
        match self.receive_within(deadline::PATIENCE)? {
            Received::Packet(packet) => Ok(Some(packet)),
            Received::End => Ok(None),
            Received::Nothing => bail!("the broker was silent for {:?}", deadline::PATIENCE),
        }
    }

    /// The next packet, if one comes within `limit`.
    ///
    /// # Errors
    /// When what comes is no packet.
    pub fn receive_within(&mut self, limit: Duration) -> Result<Received> {
        loop {
            if let Some(packet) = self.take_packet()? {
                return Ok(Received::Packet(packet));
            }
            self.stream
                .set_read_timeout(Some(limit))
                .context("set read timeout")?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Received::End),
                Ok(len) => self
                    .received
                    .extend_from_slice(chunk.get(..len).unwrap_or_default()),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(Received::Nothing),
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Ok(Received::End),
                    _ => return Err(error).context("read from the broker"),
                },
            }
        }
    }

    /// A packet that has come already, without waiting for one.
    fn take_packet(&mut self) -> Result<Option<Packet>> {
        let unread = self.received.get(self.taken..).unwrap_or_default();
        let Some((header_len, body_len)) = packet::lengths(unread)? else {
            return Ok(None);
        };
        ensure!(
            body_len <= PACKET_BYTES_MAX,
            "packet of {body_len} bytes from the broker"
        );
        let Some(body) = unread.get(header_len..header_len + body_len) else {
            return Ok(None);
        };
        let first = unread.first().copied().unwrap_or_default();
        let packet = Packet::decode(first, body, self.version)?;
        self.taken += header_len + body_len;
        if self.taken == self.received.len() {
            self.received.clear();
            self.taken = 0;
        }
        Ok(Some(packet))
    }

    /// The socket, for what has no method here.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The protocol version that it speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Ends the connection without a DISCONNECT, as a client whose power fails.
    pub fn vanish(self) {
        // Fails only when the connection has gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
