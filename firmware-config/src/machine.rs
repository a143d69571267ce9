//! `board` and `memory_budget`: for which machine the configuration is.
//!
//! What is known of the machine comes in as a [`Machine`]: this crate asks no system. What the file
//! says goes before what was found, and what the command line says before both.

use crate::board::{Board, BoardDefaults};
use crate::limits::written_packet_bytes_max;
use crate::schema::{ChoiceKey, Describe, OptionalBytesKey};
use crate::section::Section;
use crate::value::ByteCount;

/// What is known of the machine that a configuration is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The board that it is, or that it shall be judged as.
    pub board: Board,
    /// Why it is taken for that, in words that follow "board pi-4, "; one line.
    pub why: String,
    /// The command line chose the board: the file is not asked.
    pub is_chosen: bool,
    /// Its memory; `None` if that is not known.
    pub memory: Option<ByteCount>,
    /// What the process may have of it, where something limits that.
    pub memory_limit: Option<ByteCount>,
}

impl Default for Machine {
    /// One of which nothing is known.
    fn default() -> Self {
        Self {
            board: Board::X86_64,
            why: "nothing being known of the machine".to_owned(),
            is_chosen: false,
            memory: None,
            memory_limit: None,
        }
    }
}

impl Machine {
    /// The same as if it were `board`, whatever the file says: with the memory of the least of these
    /// boards, unless this machine is one.
    #[must_use]
    pub fn judged_as(self, board: Board) -> Self {
        let is_here = self.board == board;
        let profile = board.profile();
        Self {
            board,
            why: "as the command line says".to_owned(),
            is_chosen: true,
            memory: if is_here { self.memory } else { profile.memory },
            memory_limit: self.memory_limit.filter(|_| is_here),
        }
    }

    /// Its memory when the file says that it is `board`: no more than the least of these boards has
    /// where another was found.
    fn memory_of(&self, board: Board) -> Option<ByteCount> {
        let of_board = board.profile().memory.filter(|_| board != self.board);
        [self.memory, of_board].into_iter().flatten().min()
    }
}

/// The board whose defaults hold. Two are equal when the boards are: why it is that one is no part
/// of what was configured.
#[derive(Clone, Debug)]
pub struct TakenBoard {
    /// Which one.
    pub board: Board,
    /// Why, in words that follow "board pi-4, ".
    pub why: String,
}

impl PartialEq for TakenBoard {
    fn eq(&self, other: &Self) -> bool {
        self.board == other.board
    }
}

impl Eq for TakenBoard {}

/// Memory that the process may take. Two are equal when their bytes are.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBudget {
    /// How much.
    pub bytes: ByteCount,
    /// Where that comes from.
    pub source: BudgetSource,
    /// Memory that there is for the process; `None` if that is not known.
    pub memory: Option<ByteCount>,
}

impl PartialEq for MemoryBudget {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for MemoryBudget {}

/// Where a [`MemoryBudget`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetSource {
    /// The file says so.
    Key,
    /// Three quarters of what the process may have: nobody else is within that limit, but what the
    /// kernel keeps of our files is.
    Limit,
    /// Half of the memory: the rest is for the system, for other programs, and for the kernel's cache
    /// of our files.
    Memory,
}

impl BudgetSource {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Key => "as `memory_budget` says",
            Self::Limit => "three quarters of what the process may have",
            Self::Memory => "half of the memory",
        }
    }
}

impl MemoryBudget {
    /// What holds where the file says nothing; `None` if no memory is known.
    fn of(memory: Option<ByteCount>, limit: Option<ByteCount>) -> Option<Self> {
        let there_is = [memory, limit].into_iter().flatten().min();
        let part = |bytes: ByteCount, source| {
            let bytes = match source {
                BudgetSource::Limit => bytes.get() / 4 * 3,
                BudgetSource::Key | BudgetSource::Memory => bytes.get() / 2,
            };
            // Nobody wants to read odd bytes.
            let bytes = ByteCount::new(bytes >> 20 << 20);
            Self {
                bytes,
                source,
                memory: there_is,
            }
        };
        let of_memory = memory.map(|bytes| part(bytes, BudgetSource::Memory));
        let of_limit = limit.map(|bytes| part(bytes, BudgetSource::Limit));
        let both = of_memory.into_iter().chain(of_limit);
        both.min_by_key(|budget| budget.bytes)
    }
}

pub(crate) static BOARD: ChoiceKey<Option<Board>> = ChoiceKey {
    name: "board",
    choices: &[
        ("auto", None),
        ("generic-arm64", Some(Board::GenericArm64)),
        ("generic-armv7", Some(Board::GenericArmv7)),
        ("pi-3", Some(Board::Pi3)),
        ("pi-4", Some(Board::Pi4)),
        ("pi-5", Some(Board::Pi5)),
        ("pi-zero-2w", Some(Board::PiZero2W)),
        ("x86-64", Some(Board::X86_64)),
    ],
    later: &[],
};
pub(crate) static MEMORY_BUDGET: OptionalBytesKey = OptionalBytesKey {
    name: "memory_budget",
    min: ByteCount::mib(64),
    max: ByteCount::tib(1),
    default: "half of the memory",
};

/// What the file and the machine together say.
pub(crate) struct MachineRead {
    /// `None`: what the file says is refused.
    pub(crate) board: Option<TakenBoard>,
    /// Likewise; nothing in it if nothing is known.
    pub(crate) budget: Option<Option<MemoryBudget>>,
    /// With which the rest of the file is read, also when it cannot be used.
    pub(crate) defaults: BoardDefaults,
}

/// What holds without a file.
pub(crate) fn without_file(machine: &Machine) -> (TakenBoard, Option<MemoryBudget>) {
    let board = TakenBoard {
        board: machine.board,
        why: machine.why.clone(),
    };
    let budget = MemoryBudget::of(machine.memory_of(machine.board), machine.memory_limit);
    (board, budget)
}

/// Reads `board` and `memory_budget`.
pub(crate) fn read_machine(file: &Section<'_>, machine: &Machine) -> MachineRead {
    let written = file.choice(&BOARD);
    let (found, _) = without_file(machine);
    let board = written.map(|written| match written {
        Some(board) if !machine.is_chosen => TakenBoard {
            board,
            why: format!("as `{}` says", BOARD.name()),
        },
        _ => found.clone(),
    });
    let taken = board.as_ref().unwrap_or(&found).board;
    let memory = machine.memory_of(taken);
    let by_default = MemoryBudget::of(memory, machine.memory_limit);
    let budget = file.optional_bytes(&MEMORY_BUDGET).map(|written| {
        let written = written.map(|bytes| MemoryBudget {
            bytes,
            source: BudgetSource::Key,
            memory: by_default.and_then(|budget| budget.memory),
        });
        written.or(by_default)
    });
    let packet_bytes_max = written_packet_bytes_max(file);
    MachineRead {
        board,
        budget,
        defaults: taken.profile().defaults.for_packets(packet_bytes_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::PROFILES;

    const GIB: ByteCount = ByteCount::gib(1);

    #[test]
    fn every_board_can_be_written() {
        let words: Vec<_> = BOARD.choices.iter().skip(1).collect();
        let boards: Vec<_> = PROFILES
            .iter()
            .map(|profile| (profile.name, Some(profile.board)))
            .collect();
        assert_eq!(words, boards.iter().collect::<Vec<_>>());
    }

    #[test]
    fn budget_is_half_of_the_memory_or_most_of_a_smaller_limit() {
        let of = |memory: Option<u64>, limit: Option<u64>| {
            let mib = |mib: Option<u64>| mib.map(ByteCount::mib);
            let budget = MemoryBudget::of(mib(memory), mib(limit));
            budget.map(|budget| (budget.bytes.get() >> 20, budget.source, budget.memory))
        };
        let mib = |mib| Some(ByteCount::mib(mib));
        assert_eq!(of(None, None), None);
        assert_eq!(
            of(Some(1001), None),
            Some((500, BudgetSource::Memory, mib(1001)))
        );
        assert_eq!(
            of(Some(1000), Some(400)),
            Some((300, BudgetSource::Limit, mib(400)))
        );
        assert_eq!(
            of(Some(1000), Some(900)),
            Some((500, BudgetSource::Memory, mib(900)))
        );
        assert_eq!(
            of(None, Some(400)),
            Some((300, BudgetSource::Limit, mib(400)))
        );
    }

    #[test]
    fn memory_is_that_of_the_least_board_unless_this_is_one() {
        let here = Machine {
            board: Board::Pi4,
            memory: Some(ByteCount::gib(8)),
            memory_limit: Some(GIB),
            ..Machine::default()
        };
        let same = here.clone().judged_as(Board::Pi4);
        assert_eq!((same.memory, same.memory_limit), (here.memory, Some(GIB)));
        let other = here.clone().judged_as(Board::PiZero2W);
        assert_eq!(other.memory, Some(ByteCount::mib(416)));
        assert_eq!(other.memory_limit, None);
        assert_eq!(here.clone().judged_as(Board::X86_64).memory, None);
        // The file can say that it is another board, but not that it has more memory.
        assert_eq!(here.memory_of(Board::Pi4), here.memory);
        assert_eq!(here.memory_of(Board::PiZero2W), Some(ByteCount::mib(416)));
        let tiny = Machine {
            memory: Some(ByteCount::mib(200)),
            ..here
        };
        assert_eq!(tiny.memory_of(Board::PiZero2W), tiny.memory);
        assert_eq!(tiny.memory_of(Board::X86_64), tiny.memory);
    }
}
