//! rumqttc in both versions, each connection on a thread of its own.

mod v311;
mod v5;

use std::cell::Cell;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use crate::connection::{Connection, EVENTS_MAX, Event};
use crate::message::Connect;
use crate::who::{Level, Who};

/// More requests than any test makes before the connection has worked them off.
const REQUESTS_MAX: usize = 1000;

/// rumqttc takes 10 KiB by default, fewer than any test of large payloads sends.
const PACKET_BYTES_MAX: u32 = 8 << 20;

/// Whom requests are told.
struct Requests<C> {
    client: C,
    cut: Cell<Option<oneshot::Sender<()>>>,
}

impl<C> Requests<C> {
    fn new(client: C, cut: oneshot::Sender<()>) -> Self {
        let cut = Cell::new(Some(cut));
        Self { client, cut }
    }

    fn cut(&self) -> Result<()> {
        let cut = self.cut.take().context("already cut")?;
        cut.send(()).ok().context("the connection has ended")
    }
}

/// What came of polling an event loop.
enum Told {
    Event(Event),
    /// Of no interest here.
    Nothing,
    /// It said good-bye.
    Gone,
}

/// An event loop of either version.
trait Poll: Send + 'static {
    /// The error is what the connection ended with.
    fn poll_told(&mut self) -> impl Future<Output = Result<Told, Event>> + Send;
}

pub(crate) fn connect(who: Who, port: u16, connect: &Connect) -> Result<Connection> {
    let (sender, events) = sync_channel(EVENTS_MAX);
    let (cut, is_cut) = oneshot::channel();
    let commands = if who.level == Level::V5 {
        let (commands, polled) = v5::open(port, connect, cut);
        spawn(polled, is_cut, sender)?;
        commands
    } else {
        let (commands, polled) = v311::open(port, connect, cut);
        spawn(polled, is_cut, sender)?;
        commands
    };
    Connection::open(commands, events)
}

fn spawn(
    polled: impl Poll,
    is_cut: oneshot::Receiver<()>,
    events: SyncSender<Event>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("build a runtime")?;
    thread::Builder::new()
        .name(String::from("rumqttc"))
        .spawn(move || runtime.block_on(run(polled, is_cut, events)))
        .context("start a thread")?;
    Ok(())
}

/// Until the connection ends, or is cut: then the socket is dropped with the event loop. It does not
/// connect again.
async fn run(mut polled: impl Poll, mut is_cut: oneshot::Receiver<()>, events: SyncSender<Event>) {
    let last = loop {
        let told = tokio::select! {
            told = polled.poll_told() => told,
            _ = &mut is_cut => break Event::Closed(None),
        };
        match told {
            Ok(Told::Event(event)) => {
                // Nobody listens to a connection that was dropped.
                if events.send(event).is_err() {
                    return;
                }
            }
            Ok(Told::Nothing) => {}
            Ok(Told::Gone) => break Event::Closed(None),
            Err(last) => break last,
        }
    };
    drop(polled);
    let _ = events.send(last);
}
