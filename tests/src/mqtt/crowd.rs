//! Thousands of clients that keep their sessions, on one thread: sockets that do not block, and epoll.
//!
//! Nothing happens but within [`Crowd::turn`] and the calls that say so; who of them what happened to
//! is told by number, in the order of [`Crowd::add`].

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::kept::{Event, Kept, Loss};
use super::packet::{self, Packet};
use crate::deadline;

/// Bytes that are read of one client before it is another one's turn.
const READ_BYTES: usize = 16 << 10;
/// Sockets that are served in one turn.
const READY_MAX: usize = 1024;
/// Descriptors beside those of clients: files, the admin server's connections.
const OTHER_DESCRIPTORS: u64 = 100;

/// What happened to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Something within its session.
    Event(Event),
    /// The server has ended the connection.
    Ended,
}

#[derive(Debug)]
struct Member {
    kept: Kept,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    /// Whether it takes from its socket what comes.
    reads: bool,
    waits_to_write: bool,
}

/// The clients. See the module's documentation.
#[derive(Debug)]
pub struct Crowd {
    server: SocketAddr,
    epoll: OwnedFd,
    members: Vec<Member>,
}

/// Lets this process have so many connections; processes started later inherit it.
///
/// # Errors
/// When it may not: what is to be raised, and how far.
pub fn allow_connections(count: usize) -> Result<()> {
    let needed = count as u64 + OTHER_DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).with_context(|| {
        format!("{needed} open files are needed, and {maximum:?} allowed: raise `ulimit -Hn`")
    })
}

impl Crowd {
    /// Without clients yet.
    ///
    /// # Errors
    /// When the system has no epoll for it.
    pub fn new(server: SocketAddr) -> Result<Self> {
        Ok(Self {
            server,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("create epoll")?,
            members: Vec::new(),
        })
    }

    /// One more client; its number.
    pub fn add(&mut self, kept: Kept) -> usize {
        self.members.push(Member {
            kept,
            stream: None,
            unread: Vec::new(),
            reads: true,
            waits_to_write: false,
        });
        self.members.len() - 1
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn member(&mut self, number: usize) -> Result<&mut Member> {
        let member = self.members.get_mut(number);
        member.with_context(|| format!("no client {number}"))
    }

    /// A client. What it is told to send is sent with [`Crowd::flush`].
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn kept(&mut self, number: usize) -> Result<&mut Kept> {
        self.member(number).map(|member| &mut member.kept)
    }

    /// Connects a client. An older connection of it, if there is one, is left open and unread, and
    /// handed back.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(&mut self, number: usize, clean_start: bool) -> Result<Option<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.server, deadline::PATIENCE)
            .with_context(|| format!("connect to the broker at {}", self.server))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream
            .set_nonblocking(true)
            .context("set to non-blocking")?;
        let older = self.part(number, Loss::OfConnection)?;
        epoll::add(
            &self.epoll,
            &stream,
            epoll::EventData::new_u64(number as u64),
            epoll::EventFlags::IN,
        )
        .context("watch a socket")?;
        let member = self.member(number)?;
        member.stream = Some(stream);
        member.kept.connect(clean_start);
        self.flush(number)?;
        Ok(older)
    }

    /// The connection of a client, which is not its own any more.
    fn part(&mut self, number: usize, loss: Loss) -> Result<Option<TcpStream>> {
        let member = self.member(number)?;
        let stream = member.stream.take();
        member.unread = Vec::new();
        member.reads = true;
        member.waits_to_write = false;
        member.kept.lost(loss);
        if let Some(stream) = &stream {
            epoll::delete(&self.epoll, stream).context("watch a socket no more")?;
        }
        Ok(stream)
    }

    /// Ends the connection of a client without a word, or notes that the server was killed.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn vanish(&mut self, number: usize, loss: Loss) -> Result<()> {
        if let Some(stream) = self.part(number, loss)? {
            // Fails only when the connection has gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        Ok(())
    }

    /// The server was killed: nobody has a connection any more.
    ///
    /// # Errors
    /// None that a test could do something about.
    pub fn server_is_dead(&mut self) -> Result<()> {
        (0..self.len()).try_for_each(|number| self.vanish(number, Loss::OfServer))
    }

    /// Says good-bye for a client. The server then ends the connection.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn say_good_bye(&mut self, number: usize) -> Result<()> {
        self.kept(number)?.disconnect();
        self.flush(number)
    }

    /// Lets a client take nothing from its socket, or go on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_reading(&mut self, number: usize, reads: bool) -> Result<()> {
        self.member(number)?.reads = reads;
        self.watch(number)
    }

    fn watch(&mut self, number: usize) -> Result<()> {
        let member = self.members.get(number).context("no such client")?;
        let Some(stream) = &member.stream else {
            return Ok(());
        };
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, member.reads);
        flags.set(epoll::EventFlags::OUT, member.waits_to_write);
        let data = epoll::EventData::new_u64(number as u64);
        epoll::modify(&self.epoll, stream, data, flags).context("watch a socket")
    }

    /// Sends what a client has to send, as far as its socket takes it now; the rest in
    /// [`Crowd::turn`].
    ///
    /// # Errors
    /// When there is no such client. A broken connection shows when it is read.
    pub fn flush(&mut self, number: usize) -> Result<()> {
        let member = self.member(number)?;
        let Some(stream) = &mut member.stream else {
            return Ok(());
        };
        let output = member.kept.output();
        let mut sent = 0;
        while let Some(rest) = output.get(sent..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        output.drain(..sent);
        if output.is_empty() {
            *output = Vec::new();
        }
        let waits = !output.is_empty();
        if waits != member.waits_to_write {
            member.waits_to_write = waits;
            self.watch(number)?;
        }
        Ok(())
    }

    /// Waits for at most so long until something can be done, and does it; what happened is told.
    ///
    /// # Errors
    /// What a server did wrong, or `tell` finds wrong.
    pub fn turn(
        &mut self,
        limit: Duration,
        mut tell: impl FnMut(&mut Kept, usize, Happened) -> Result<()>,
    ) -> Result<()> {
        let limit = Timespec::try_from(limit).context("a time to wait")?;
        let mut ready = Vec::with_capacity(READY_MAX);
        let waited = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&limit),
        );
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for sockets"),
        }
        for event in ready {
            let number = usize::try_from(event.data.u64()).context("a client's number")?;
            let is_over = self.read(number, &mut tell)?;
            if is_over {
                self.vanish(number, Loss::OfConnection)?;
                let member = self.member(number)?;
                tell(&mut member.kept, number, Happened::Ended)?;
            }
            self.flush(number)?;
        }
        Ok(())
    }

    /// Reads of one socket and works off what is whole; whether the connection has ended.
    fn read(
        &mut self,
        number: usize,
        tell: &mut impl FnMut(&mut Kept, usize, Happened) -> Result<()>,
    ) -> Result<bool> {
        let member = self.member(number)?;
        let Some(stream) = member.stream.as_mut().filter(|_| member.reads) else {
            return Ok(false);
        };
        let mut chunk = [0; READ_BYTES];
        let is_over = match stream.read(&mut chunk) {
            Ok(count) => {
                let came = chunk.get(..count).unwrap_or_default();
                member.unread.extend_from_slice(came);
                count == 0
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        let unread = std::mem::take(&mut member.unread);
        let mut taken = 0;
        while let Some((packet, len)) = packet_at(&unread, taken, member.kept.version())? {
            taken += len;
            if let Some(event) = member.kept.handle(packet)? {
                tell(&mut member.kept, number, Happened::Event(event))?;
            }
        }
        member.unread = unread.get(taken..).unwrap_or_default().to_vec();
        Ok(is_over)
    }
}

/// The packet that begins there, if it is whole, and its length.
fn packet_at(bytes: &[u8], at: usize, version: packet::Version) -> Result<Option<(Packet, usize)>> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some((header, body)) = packet::lengths(rest)? else {
        return Ok(None);
    };
    let Some(whole) = rest.get(header..header + body) else {
        return Ok(None);
    };
    let first = rest.first().copied().unwrap_or_default();
    Ok(Some((
        Packet::decode(first, whole, version)?,
        header + body,
    )))
}
