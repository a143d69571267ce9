//! A search for an input with which something does not hold: the seeds first, then mutations of what
//! led to something new. The same seed number gives the same inputs everywhere.

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::mutation::mutate;
use crate::notation::{format, hex};
use crate::random::Random;
use crate::shrink::shrink;
use crate::{Seen, Target};

/// Inputs that are kept to be changed further. What is new gets rarer with each.
const CORPUS_MAX: usize = 4_096;

/// What an input is given to; panics when something does not hold.
type Judge = Box<dyn Fn(&[u8], &mut Seen)>;

/// A search in progress.
pub struct Search {
    target: Target,
    judge: Judge,
    number: u64,
    random: Random,
    corpus: Vec<Vec<u8>>,
    /// How many of `corpus` were run as they are.
    run: usize,
    seen: Seen,
    executions: u64,
}

/// An input with which something does not hold.
#[derive(Debug)]
pub struct Finding {
    /// Where.
    pub target: Target,
    /// The seed number of the search.
    pub number: u64,
    /// Inputs that were run until then.
    pub executions: u64,
    /// The shortest that was found.
    pub input: Vec<u8>,
    /// What does not hold.
    pub message: String,
}

impl Search {
    /// A search that begins with these inputs.
    pub fn new(target: Target, number: u64, seeds: Vec<Vec<u8>>) -> Self {
        Self::judged_by(target, number, seeds, move |input, seen| {
            target.run(input, seen);
        })
    }

    /// The same with another judge of inputs than the target.
    pub fn judged_by(
        target: Target,
        number: u64,
        seeds: Vec<Vec<u8>>,
        judge: impl Fn(&[u8], &mut Seen) + 'static,
    ) -> Self {
        Self {
            target,
            judge: Box::new(judge),
            number,
            random: Random::new(number),
            corpus: seeds,
            run: 0,
            seen: Seen::default(),
            executions: 0,
        }
    }

    /// Runs one more input.
    ///
    /// # Errors
    /// Something does not hold with it.
    pub fn step(&mut self) -> Result<(), Box<Finding>> {
        let (input, is_seed) = match self.corpus.get(self.run) {
            Some(seed) => (seed.clone(), true),
            None => (self.mutation(), false),
        };
        self.executions += 1;
        self.run += usize::from(is_seed);
        let mut seen = Seen::default();
        if let Err(message) = judged(&self.judge, &input, &mut seen) {
            return Err(Box::new(self.finding(input, message)));
        }
        let is_new = self.seen.merge(&seen) > 0;
        if is_new && !is_seed && self.corpus.len() < CORPUS_MAX {
            self.corpus.push(input);
            self.run += 1;
        }
        Ok(())
    }

    /// Inputs that were run.
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// Inputs that are kept.
    pub fn corpus(&self) -> usize {
        self.corpus.len()
    }

    /// What was reached by all of them together.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// A change of an input that was kept; of a late one every second time.
    fn mutation(&mut self) -> Vec<u8> {
        let late = self.corpus.len().saturating_sub(64);
        let late = self.corpus.get(late..).unwrap_or_default();
        let from = match self.random.is_one_in(2) {
            true => late,
            false => &self.corpus,
        };
        let input = self.random.pick(from).cloned().unwrap_or_default();
        let other = self.random.pick(&self.corpus).cloned().unwrap_or_default();
        mutate(self.target, &input, &other, &mut self.random)
    }

    fn finding(&self, input: Vec<u8>, message: String) -> Finding {
        let mut finding = Finding {
            target: self.target,
            number: self.number,
            executions: self.executions,
            input,
            message,
        };
        let input = std::mem::take(&mut finding.input);
        finding.input = shrink(self.target, input, |input| {
            match judged(&self.judge, input, &mut Seen::default()) {
                Ok(()) => false,
                Err(message) => {
                    finding.message = message;
                    true
                }
            }
        });
        finding
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.name();
        let input = hex(&self.input);
        writeln!(f, "{}", self.message)?;
        writeln!(
            f,
            "{target}: execution {} of search {}, {} bytes:",
            self.executions,
            self.number,
            self.input.len()
        )?;
        writeln!(f, "{input}")?;
        write!(f, "{}", format(self.target, &self.input))?;
        write!(f, "again: cargo run -p mqtt-fuzz -- run {target} {input}")
    }
}

/// Whether everything holds with an input; else what does not.
///
/// # Errors
/// What the panic said.
pub fn hold(target: Target, input: &[u8], seen: &mut Seen) -> Result<(), String> {
    judged(&|input, seen| target.run(input, seen), input, seen)
}

fn judged(judge: &impl Fn(&[u8], &mut Seen), input: &[u8], seen: &mut Seen) -> Result<(), String> {
    quieten();
    IS_QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| judge(input, seen)));
    IS_QUIET.set(false);
    result.map_err(|_| LAST_WORDS.take())
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST_WORDS: Cell<String> = const { Cell::new(String::new()) };
}

/// A finding panics hundreds of times while it is shrunk; its last words are kept, not printed.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| match IS_QUIET.get() {
            true => LAST_WORDS.set(info.to_string()),
            false => loud(info),
        }));
    });
}
