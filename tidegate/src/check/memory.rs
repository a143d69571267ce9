//! Whether what a configuration may take fits the memory of the board that it will be on.

use firmware_config::Config;

use super::Said;
use crate::room::memory::{self, MemoryVerdict};
use crate::status::size;

/// Compares what the configuration may take with its budget.
pub(super) fn compare(config: &Config) -> Said {
    let need = memory::need(config);
    let may_take = size(need.total_bytes());
    let board = format!("board {}, {}", config.board.board, config.board.why);
    let budget = memory::budget(config);
    let refused = |what: &str, advice: &str| {
        Said::Refused(format!(
            "{what}: it may take {may_take}, the budget is {budget} ({board})\n{}{advice}",
            memory::table(&need)
        ))
    };
    match memory::judge(config, &need) {
        MemoryVerdict::Fits => Said::Fits {
            note: format!(
                "{board}\nit may take {may_take} of memory, the budget is {budget}\n{}",
                memory::table(&need)
            ),
            warnings: Vec::new(),
        },
        MemoryVerdict::Unknown => Said::Fits {
            note: format!(
                "{board}\nit may take {may_take} of memory, the budget is {budget}\n{}",
                memory::table(&need)
            ),
            warnings: vec![String::from(
                "whether it fits the memory is not known: memory_budget says how much it may take",
            )],
        },
        MemoryVerdict::TooMuch => refused(
            "the configuration does not fit the memory",
            &memory::advice(config, &need),
        ),
        MemoryVerdict::BudgetTooLarge => refused(
            "memory_budget: there is not so much memory",
            "  lower memory_budget, or leave it out: then it is half of the memory",
        ),
    }
}

#[cfg(test)]
mod tests {
    use firmware_config::{Board, ByteCount, Machine};

    use super::*;
    use crate::wiring;

    const MIB: u64 = 1 << 20;

    fn on(machine: &Machine, text: &str) -> Config {
        Config::from_toml(text, "test", &wiring::checks(), machine).unwrap()
    }

    fn with_memory(mib: u64) -> Machine {
        Machine {
            memory: Some(ByteCount::new(mib * MIB)),
            ..Machine::default()
        }
    }

    fn refusal(machine: &Machine, text: &str) -> String {
        match compare(&on(machine, text)) {
            Said::Refused(what) => what,
            Said::Fits { note, .. } => panic!("fits: {note}"),
        }
    }

    #[test]
    fn defaults_of_every_board_fit_half_of_its_memory() {
        let bridge = "gateway_id = \"g\"\n[bridge]\nbootstrap = [\"k:1\"]\n[[bridge.route]]\n\
                      name = \"r\"\nlog = \"default\"\ntopic = \"t\"\n";
        for board in Board::all() {
            let machine = Machine::default().judged_as(board);
            let config = on(&machine, bridge);
            let Said::Fits { note, warnings } = compare(&config) else {
                panic!("{board} does not fit");
            };
            assert!(note.contains(&format!("board {board}, ")), "{note}");
            // Of the others nobody knows how much memory they have.
            let is_known = board.profile().memory.is_some();
            assert_eq!(warnings.is_empty(), is_known, "{board}: {warnings:?}");
        }
    }

    #[test]
    fn default_does_not_fit_where_half_of_the_memory_is_less() {
        assert!(matches!(
            compare(&on(&with_memory(512), "")),
            Said::Fits { .. }
        ));
        let what = refusal(&with_memory(256), "");
        for words in [
            "does not fit the memory",
            "the budget is 128.0 MiB, half of the memory, which is 256.0 MiB",
            "most is taken by storage.segment_bytes, which is \"16MiB\"",
            "keys to lower: storage.segment_bytes, limits.all_mailboxes_bytes_max",
            "board = \"pi-zero-2w\"",
        ] {
            assert!(what.contains(words), "{words}: {what}");
        }
    }

    #[test]
    fn budget_beyond_the_memory_is_refused() {
        let text = "memory_budget = \"1GiB\"\n";
        let what = refusal(&with_memory(512), text);
        assert!(what.contains("memory_budget: there is not so much memory"));
        let limited = Machine {
            memory_limit: Some(ByteCount::new(512 * MIB)),
            ..with_memory(4096)
        };
        assert!(refusal(&limited, text).contains("there are 512.0 MiB"));
        for machine in [with_memory(4096), Machine::default()] {
            let said = compare(&on(&machine, text));
            assert!(matches!(said, Said::Fits { .. }), "{said:?}");
        }
    }

    #[test]
    fn nothing_fits_a_budget_below_what_no_key_changes() {
        let what = refusal(&with_memory(4096), "memory_budget = \"64MiB\"\n");
        assert!(
            what.contains("whatever the keys say; raise memory_budget"),
            "{what}"
        );
    }
}
