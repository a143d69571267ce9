//! What is shown while the demonstration runs: a sentence for each act, and the numbers below it,
//! drawn again and again on a terminal, a line a second elsewhere.
//!
//! Invariant: what cannot be written is not written; the demonstration goes on without a reader.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::fleet::Totals;
use super::gateway::Live;
use super::observer::Sample;
use crate::status::size;

/// Between two drawings on a terminal, and elsewhere.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Begin of the line above, of as many lines, and clear from there on.
const TO_LINE_ABOVE: &str = "\x1b[F";
const CLEAR_BELOW: &str = "\x1b[J";
/// Lines that are too long end at the edge instead of taking two.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// What the numbers are shown of.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) devices: u16,
    pub(super) seconds: u16,
    pub(super) started: Instant,
    pub(super) totals: Rc<Totals>,
    pub(super) samples: watch::Receiver<Option<Sample>>,
    pub(super) gateway: watch::Receiver<Option<Live>>,
    /// How the uplink is.
    pub(super) uplink: Rc<Cell<&'static str>>,
}

/// See the module's documentation.
pub(super) struct Display {
    out: RefCell<Box<dyn Write>>,
    is_terminal: bool,
    /// Lines of the block that stands on the terminal.
    drawn: Cell<usize>,
    /// The act, as the block names it.
    act: RefCell<String>,
}

impl Display {
    /// On standard output, or on standard error if that is for a summary.
    pub(super) fn new(on_stderr: bool) -> Rc<Self> {
        let (out, is_terminal): (Box<dyn Write>, _) = if on_stderr {
            (Box::new(io::stderr()), io::stderr().is_terminal())
        } else {
            (Box::new(io::stdout()), io::stdout().is_terminal())
        };
        Rc::new(Self::on(out, is_terminal))
    }

    fn on(out: Box<dyn Write>, is_terminal: bool) -> Self {
        Self {
            out: RefCell::new(out),
            is_terminal,
            drawn: Cell::new(0),
            act: RefCell::default(),
        }
    }

    /// Lines that stay, above the numbers.
    pub(super) fn say(&self, text: &str) {
        let mut all = self.erased();
        all.push_str(text);
        all.push('\n');
        self.write(&all);
    }

    /// An act begins: its title, and what happens in it.
    pub(super) fn begin(&self, title: &str, what: &str) {
        title.clone_into(&mut self.act.borrow_mut());
        self.say(&format!("\n{title}\n  {what}"));
    }

    /// Shows the numbers until what it returns is dropped.
    pub(super) fn follow(self: &Rc<Self>, scene: Scene) -> JoinSet<()> {
        let display = Rc::clone(self);
        let mut task = JoinSet::new();
        task.spawn_local(async move {
            let every = if display.is_terminal {
                DRAW_EVERY
            } else {
                LINE_EVERY
            };
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                display.draw(&scene);
            }
        });
        task
    }

    /// Takes the numbers away.
    pub(super) fn clear(&self) {
        let erased = self.erased();
        self.write(&erased);
    }

    fn draw(&self, scene: &Scene) {
        let numbers = Numbers::of(scene);
        if !self.is_terminal {
            self.write(&format!("{}\n", numbers.line()));
            return;
        }
        let mut all = self.erased();
        let block = numbers.block(&self.act.borrow());
        self.drawn.set(block.len());
        all.push_str(NO_WRAP);
        for line in block {
            all.push_str(&line);
            all.push('\n');
        }
        all.push_str(WRAP);
        self.write(&all);
    }

    /// What takes the block away, if there is one.
    fn erased(&self) -> String {
        match self.drawn.take() {
            0 => String::new(),
            lines => TO_LINE_ABOVE.repeat(lines) + CLEAR_BELOW,
        }
    }

    fn write(&self, text: &str) {
        let mut out = self.out.borrow_mut();
        // Whether anybody reads is not the demonstration's affair.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// The numbers of one moment.
#[derive(Debug)]
struct Numbers<'a> {
    elapsed_seconds: u64,
    seconds: u16,
    devices: u16,
    connected: u64,
    published: u64,
    acknowledged: u64,
    kept: u64,
    sample: Option<Sample>,
    gateway_is_up: bool,
    uplink: &'a str,
}

impl<'a> Numbers<'a> {
    fn of(scene: &'a Scene) -> Self {
        let totals = &scene.totals;
        let (acknowledged, kept) = (totals.acknowledged.get(), totals.unacknowledged.get());
        Self {
            elapsed_seconds: scene.started.elapsed().as_secs(),
            seconds: scene.seconds,
            devices: scene.devices,
            connected: totals.connected.get(),
            published: acknowledged + kept + totals.sent_qos0.get(),
            acknowledged,
            kept,
            sample: scene.samples.borrow().clone(),
            gateway_is_up: scene.gateway.borrow().is_some(),
            uplink: scene.uplink.get(),
        }
    }

    fn gateway(&self) -> &'static str {
        if self.gateway_is_up { "up" } else { "down" }
    }

    /// Records and bytes on flash, records waiting, replicated, and the age of the oldest.
    fn books(&self) -> [String; 5] {
        let unknown = || "?".to_owned();
        let Some(sample) = &self.sample else {
            return [(); 5].map(|()| unknown());
        };
        let or_unknown = |count| {
            if sample.is_complete {
                thousands(count)
            } else {
                unknown()
            }
        };
        [
            or_unknown(sample.on_flash),
            size(sample.flash_bytes),
            or_unknown(sample.waiting),
            or_unknown(sample.replicated),
            format!("{:.1} s", sample.lag.as_secs_f64()),
        ]
    }

    fn line(&self) -> String {
        let [on_flash, bytes, waiting, replicated, lag] = self.books();
        let mut line = format!(
            "{:>4} s  published {} · on flash {on_flash} ({bytes}) · waiting {waiting} · \
             replicated {replicated} · lag {lag}",
            self.elapsed_seconds,
            thousands(self.published),
        );
        if !self.gateway_is_up {
            line.push_str(" · gateway down");
        }
        if self.uplink != "up" {
            let _ = write!(line, " · uplink {}", self.uplink);
        }
        line
    }

    fn block(&self, act: &str) -> Vec<String> {
        let [on_flash, bytes, waiting, replicated, lag] = self.books();
        let time = format!("{} s of about {}", self.elapsed_seconds, self.seconds);
        let mut lines = vec![
            String::new(),
            format!("  {act} · {time}"),
            format!(
                "  devices   {} of {} connected · {} published · {} acknowledged · {} kept",
                self.connected,
                self.devices,
                thousands(self.published),
                thousands(self.acknowledged),
                thousands(self.kept),
            ),
            format!(
                "  gateway   {} · {on_flash} on flash ({bytes}) · {waiting} waiting",
                self.gateway()
            ),
            format!(
                "  upstream  uplink {} · {replicated} replicated · lag {lag}",
                self.uplink
            ),
        ];
        let trouble = self
            .sample
            .as_ref()
            .and_then(|sample| sample.trouble.as_ref());
        if let Some(trouble) = trouble {
            lines.push(format!("            {trouble}"));
        }
        lines
    }
}

/// A number with a comma before every three digits.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
