//! Clients on their sockets, all on one thread; what they do and see goes into the record.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use ::tests::mqtt::packet;
use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::player::{self, Did, Player};
use super::step::Step;
use crate::recorder;
use crate::trace::Event;

/// Bytes that are read of one client before it is another one's turn.
const READ_BYTES: usize = 16 << 10;

#[derive(Debug)]
struct Link {
    player: Player,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct World {
    address: SocketAddr,
    links: Vec<Link>,
    bytes_max: usize,
    /// How much was done and seen.
    now: usize,
}

impl World {
    /// These clients, none of them connected, after `now` things that they did and saw.
    pub(crate) fn new(
        address: SocketAddr,
        players: Vec<Player>,
        bytes_max: usize,
        now: usize,
    ) -> Self {
        let links = players.into_iter().map(|player| Link {
            player,
            stream: None,
            unread: Vec::new(),
            unsent: Vec::new(),
        });
        Self {
            address,
            links: links.collect(),
            bytes_max,
            now,
        }
    }

    /// How much was done and seen.
    pub(crate) fn now(&self) -> usize {
        self.now
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn players(&self) -> impl Iterator<Item = &Player> {
        self.links.iter().map(|link| &link.player)
    }

    pub(crate) fn player(&self, client: usize) -> Result<&Player> {
        let link = self.links.get(client).context("no such client")?;
        Ok(&link.player)
    }

    pub(crate) fn into_players(self) -> Vec<Player> {
        self.links.into_iter().map(|link| link.player).collect()
    }

    fn link(&mut self, client: usize) -> Result<&mut Link> {
        self.links.get_mut(client).context("no such client")
    }

    pub(crate) fn is_connected(&self, client: usize) -> bool {
        let link = self.links.get(client);
        link.is_some_and(|link| link.stream.is_some())
    }

    /// A client does or sees something.
    pub(crate) fn does(&mut self, client: usize, did: Did) -> Result<()> {
        let now = self.now;
        self.now += 1;
        let link = self.link(client)?;
        let done = link.player.apply(now, &did);
        recorder::note(Event::Client(client, did));
        done
    }

    /// As [`Self::does`], and sends what follows from it.
    pub(crate) fn acts(&mut self, client: usize, did: Did) -> Result<()> {
        self.does(client, did)?;
        self.flush(client)
    }

    pub(crate) fn connect(&mut self, client: usize) -> Result<()> {
        let stream = TcpStream::connect(self.address).context("connect to the broker")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream
            .set_nonblocking(true)
            .context("set to non-blocking")?;
        let link = self.link(client)?;
        link.stream = Some(stream);
        link.unread.clear();
        link.unsent.clear();
        self.acts(client, Did::Connect)
    }

    /// The connection of a client ends without a word.
    pub(crate) fn vanish(&mut self, client: usize) -> Result<()> {
        if let Some(stream) = self.link(client)?.stream.take() {
            // Fails only when the connection has gone already.
            let _ = stream.shutdown(Shutdown::Both);
            self.does(client, Did::Lost)?;
        }
        Ok(())
    }

    /// Sends what a client has to send, as far as its socket takes it.
    fn flush(&mut self, client: usize) -> Result<()> {
        let link = self.link(client)?;
        let output = std::mem::take(link.player.kept.output());
        let mut rest = output.as_slice();
        while let Some((header, body)) = packet::lengths(rest)? {
            let first = rest.first().copied().unwrap_or(0);
            if let Some(step) = Step::of_sent(first) {
                self.does(client, Did::Sent(step))?;
            }
            rest = rest.get(header + body..).unwrap_or_default();
        }
        let link = self.link(client)?;
        link.unsent.extend(output);
        let Some(stream) = &mut link.stream else {
            return Ok(());
        };
        while !link.unsent.is_empty() {
            match stream.write(&link.unsent) {
                Ok(count) => drop(link.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A broken connection shows when it is read.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Waits a little until something comes, and works it off; clients whose connection has ended.
    pub(crate) fn turn(&mut self, limit: Duration) -> Result<Vec<usize>> {
        let sockets = self.links.iter().filter_map(|link| link.stream.as_ref());
        let mut sockets: Vec<_> = sockets
            .map(|stream| PollFd::new(stream, PollFlags::IN))
            .collect();
        let limit = Timespec::try_from(limit).context("a time to wait")?;
        match poll(&mut sockets, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for sockets"),
        }
        drop(sockets);
        let mut ended = Vec::new();
        for client in 0..self.links.len() {
            if self.read(client)? {
                self.vanish(client)?;
                ended.push(client);
            }
            self.flush(client)?;
        }
        Ok(ended)
    }

    /// Reads of one socket and works off what is whole; whether the connection has ended.
    fn read(&mut self, client: usize) -> Result<bool> {
        let bytes_max = self.bytes_max;
        let link = self.link(client)?;
        let Some(stream) = &mut link.stream else {
            return Ok(false);
        };
        let mut chunk = [0; READ_BYTES];
        let is_over = match stream.read(&mut chunk) {
            Ok(count) => {
                link.unread
                    .extend_from_slice(chunk.get(..count).unwrap_or_default());
                count == 0
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        let unread = std::mem::take(&mut link.unread);
        let mut rest = unread.as_slice();
        while let Some((header, body)) = packet::lengths(rest)? {
            let Some(whole) = rest.get(header..header + body) else {
                break;
            };
            let first = rest.first().copied().unwrap_or(0);
            let version = self.player(client)?.kept.version();
            let did = player::seen(version, first, whole, bytes_max)?;
            self.does(client, did)?;
            rest = rest.get(header + body..).unwrap_or_default();
        }
        let rest = rest.to_vec();
        self.link(client)?.unread = rest;
        Ok(is_over)
    }
}
