//! Boards: what they change, what they never change, and what the reference says of them.

use firmware_config::{Board, BudgetSource, ByteCount, Config, Machine};
use toml::Table;

use crate::CHECKS;

fn on(board: Board, text: &str) -> Config {
    let machine = Machine {
        board,
        ..Machine::default()
    };
    match Config::from_toml(text, "t.toml", &CHECKS, &machine) {
        Ok(config) => config,
        Err(problems) => panic!("{board}: {problems}"),
    }
}

fn with_memory(mib: u64) -> Machine {
    Machine {
        memory: Some(ByteCount::new(mib << 20)),
        ..Machine::default()
    }
}

#[test]
fn empty_file_is_the_same_as_no_file_on_every_board() {
    for board in Board::all() {
        let machine = Machine {
            board,
            ..with_memory(700)
        };
        let empty = Config::from_toml("", "t.toml", &CHECKS, &machine).unwrap();
        assert_eq!(empty, Config::without_file(&machine), "{board}");
        assert_eq!(empty.board.board, board);
        let tables = "[limits]\n[storage]\n[[listener]]\nallow_anonymous = true\n";
        let tables = Config::from_toml(tables, "t.toml", &CHECKS, &machine).unwrap();
        assert_eq!(tables, empty, "{board}");
    }
}

#[test]
fn unknown_machines_have_the_defaults_of_the_reference() {
    let default = Config::default();
    for board in [Board::GenericArm64, Board::GenericArmv7, Board::X86_64] {
        let config = Config {
            board: default.board.clone(),
            ..on(board, "")
        };
        assert_eq!(config, default, "{board}");
    }
}

#[test]
fn file_says_more_than_the_board() {
    let text = include_str!("../fixtures/every-key.toml");
    let all = on(Board::X86_64, text);
    for board in Board::all() {
        let text = text.replace("generic-arm64", &board.to_string());
        let config = Config {
            board: all.board.clone(),
            ..on(Board::X86_64, &text)
        };
        assert_eq!(config, all, "{board}");
    }
}

#[test]
fn key_says_more_than_what_was_found_and_the_command_line_more_than_the_key() {
    let text = "board = \"pi-zero-2w\"\n";
    let found = with_memory(8192);
    let read = |machine: &Machine| Config::from_toml(text, "t.toml", &CHECKS, machine).unwrap();
    let by_key = read(&found);
    assert_eq!(by_key.board.board, Board::PiZero2W);
    assert_eq!(by_key.board.why, "as `board` says");
    let budget = by_key.memory_budget.unwrap();
    assert_eq!(budget.bytes, ByteCount::new(208 << 20));
    let chosen = read(&found.judged_as(Board::Pi4));
    assert_eq!(chosen.board.board, Board::Pi4);
    assert_eq!(chosen.board.why, "as the command line says");
    let budget = chosen.memory_budget.unwrap();
    assert_eq!(budget.bytes, ByteCount::new(448 << 20));
    assert_eq!(budget.source, BudgetSource::Memory);
}

#[test]
fn budget_of_the_file_is_told_from_that_of_the_machine() {
    let text = "memory_budget = \"100MiB\"\n";
    let config = Config::from_toml(text, "t.toml", &CHECKS, &with_memory(512)).unwrap();
    let budget = config.memory_budget.unwrap();
    assert_eq!(budget.bytes, ByteCount::new(100 << 20));
    assert_eq!(budget.source, BudgetSource::Key);
    assert_eq!(budget.memory, Some(ByteCount::new(512 << 20)));
    assert_eq!(on(Board::X86_64, "").memory_budget, None);
}

/// An upgrade, or a card in another board, must not refuse a file that was right.
#[test]
fn file_that_is_right_on_a_generic_board_is_right_on_all() {
    let sizes = ["1KiB", "256KiB", "300KiB", "600KiB", "1MiB", "2MiB", "8MiB"];
    let mailboxes = "mailbox_bytes_max = \"64MiB\"\n";
    let queue = "commit_queue_bytes_max = \"64MiB\"\n";
    let segment = "[storage]\nsegment_bytes = \"16MiB\"\n";
    let log = "[[log]]\nname = \"a\"\nfilters = [\"a\"]\nretention.bytes = \"32MiB\"\n";
    for size in sizes {
        let packet = format!("[limits]\npacket_bytes_max = \"{size}\"\n");
        for text in [
            packet.clone(),
            format!("{packet}{mailboxes}"),
            format!("{packet}{mailboxes}{queue}"),
            format!("{packet}{mailboxes}{queue}{segment}"),
            format!("{log}{packet}{mailboxes}"),
        ] {
            let is_right = |board| {
                let machine = Machine {
                    board,
                    ..Machine::default()
                };
                Config::from_toml(&text, "t.toml", &CHECKS, &machine).is_ok()
            };
            let rights: Vec<_> = Board::all().map(is_right).collect();
            let expected = is_right(Board::X86_64);
            assert!(rights.iter().all(|right| *right == expected), "{text}");
        }
    }
}

#[test]
fn what_is_printed_says_why_it_is_that_board() {
    let machine = Machine {
        board: Board::Pi4,
        why: "found\nin \"model\"".to_owned(),
        ..with_memory(2048)
    };
    let printed = Config::without_file(&machine).explain();
    let line = "board = \"pi-4\" # found in \"model\"\n";
    assert!(printed.contains(line), "{printed}");
    let line = "memory_budget = \"1GiB\" # half of the memory\n";
    assert!(printed.contains(line), "{printed}");
    let file: Table = printed.parse().unwrap();
    assert_eq!(file["storage"]["segment_bytes"].as_str(), Some("16MiB"));
}

/// The rows of the table of boards: a key and its value on each board.
#[test]
fn reference_says_what_each_board_changes() {
    let reference = include_str!("../../../docs/configuration.md");
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines = reference.lines();
    let head = lines.find(|line| line.starts_with("| Default of |"));
    let head = cells(head.expect("there is a table of boards"));
    let rows: Vec<_> = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    for board in Board::all() {
        let name = board.to_string();
        let is_column = |cell: &String| cell.split(", ").any(|one| one == name);
        let column = head.iter().position(is_column);
        let column = column.unwrap_or_else(|| panic!("{name} has a column: {head:?}"));
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row[0].clone(), row[column].clone()))
            .collect();
        let holds = board.printed_defaults();
        let holds: Vec<_> = holds
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        assert_eq!(told[..holds.len()], holds, "{name}");
        for (key, _) in holds {
            let row = reference
                .lines()
                .find(|line| line.starts_with(&format!("| `{key}` |")));
            let is_said = row.is_some_and(|row| row.contains("[board](#boards-and-memory)"));
            assert!(is_said, "{key} says that its default is the board's");
        }
    }
}
