//! Whether what the configuration may take fits the memory: one judgement for `check`, which refuses,
//! `run`, which warns, and `doctor`, which tells.
//!
//! How much that is, [`MemoryNeed`] says; here it meets a budget.

mod need;

use firmware_config::{Board, BudgetSource, ByteCount, Config};

use crate::status::size;
pub(crate) use need::MemoryNeed;
use need::{Key, PACKETS_BEYOND, Part};

/// What the configuration may take.
pub(crate) fn need(config: &Config) -> MemoryNeed {
    MemoryNeed::of(config)
}

/// Whether there is memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryVerdict {
    /// It fits the budget.
    Fits,
    /// It may take more than the budget.
    TooMuch,
    /// The file gives it more memory than there is.
    BudgetTooLarge,
    /// No budget is configured, and the memory cannot be seen.
    Unknown,
}

/// Compares what the configuration may take with its budget, and the budget with the memory.
pub(crate) fn judge(config: &Config, need: &MemoryNeed) -> MemoryVerdict {
    let Some(budget) = &config.memory_budget else {
        return MemoryVerdict::Unknown;
    };
    if budget.memory.is_some_and(|memory| budget.bytes > memory) {
        return MemoryVerdict::BudgetTooLarge;
    }
    match need.total_bytes() > budget.bytes.get() {
        true => MemoryVerdict::TooMuch,
        false => MemoryVerdict::Fits,
    }
}

/// The budget and where it comes from, for people: `208.0 MiB, half of the memory, which is 416.0 MiB`.
pub(crate) fn budget(config: &Config) -> String {
    let Some(budget) = &config.memory_budget else {
        return String::from("not known, since the memory cannot be seen; memory_budget says it");
    };
    let memory = match (budget.source, budget.memory) {
        (_, None) => String::new(),
        (BudgetSource::Key, Some(memory)) => format!("; there are {}", size(memory.get())),
        (_, Some(memory)) => format!(", which is {}", size(memory.get())),
    };
    let source = budget.source.words();
    format!("{}, {source}{memory}", size(budget.bytes.get()))
}

/// What, how much, and which key says so; a line each.
pub(crate) fn table(need: &MemoryNeed) -> String {
    let rows = need.parts.iter().map(|part| {
        let key = part.key.map_or("", |key| key.path);
        let row = format!("{:>10}  {:<38}  {key}", size(part.bytes), part.what);
        format!("  {}\n", row.trim_end())
    });
    let mut out: String = rows.collect();
    out.push_str(&format!("  {:>10}  in all\n", size(need.total_bytes())));
    out.push_str(&format!(
        "  not counted: {}, if every connection had {PACKETS_BEYOND} of the largest packets in \
         memory at one time (limits.packet_bytes_max)\n",
        size(need.beyond_bytes)
    ));
    out
}

/// Which keys to lower, and to what; a line each.
pub(crate) fn advice(config: &Config, need: &MemoryNeed) -> String {
    let Some(budget) = &config.memory_budget else {
        return String::new();
    };
    let bytes = budget.bytes.get();
    let keyed = need.by_keys();
    if need.fixed_bytes() >= bytes {
        return format!(
            "  nothing fits: {} are needed whatever the keys say; raise memory_budget",
            size(need.fixed_bytes())
        );
    }
    let mut lines = Vec::new();
    if let Some((part, key)) = keyed.first() {
        let what_fits = what_fits(part, *key, need.total_bytes().saturating_sub(bytes));
        let what_fits = what_fits.map_or_else(String::new, |value| {
            format!(": {value} would fit if the others stay")
        });
        let value = printed(key.value, key.is_size);
        lines.push(format!(
            "  most is taken by {}, which is {value}{what_fits}",
            key.path
        ));
    }
    let paths: Vec<_> = keyed.iter().map(|(_, key)| key.path).collect();
    lines.push(format!("  keys to lower: {}", paths.join(", ")));
    if config.board.board != Board::PiZero2W {
        lines.push(format!(
            "  or a smaller board, for the keys that the file leaves out: board = \"{}\"",
            Board::PiZero2W
        ));
    }
    lines.join("\n")
}

/// What a key may say when its part gives back `too_much`; `None` if that is next to nothing.
fn what_fits(part: &Part, key: Key, too_much: u64) -> Option<String> {
    let each = part.bytes.checked_div(key.value)?;
    let value = part.bytes.checked_sub(too_much)?.checked_div(each)?;
    let step = if key.is_size { 1 << 20 } else { 1 };
    let value = value / step * step;
    (value > 0).then(|| printed(value, key.is_size))
}

/// As it stands in a file.
fn printed(value: u64, is_size: bool) -> String {
    match is_size {
        true => format!("\"{}\"", ByteCount::new(value)),
        false => value.to_string(),
    }
}

/// Says at a start which board it is, and warns when the configuration may take too much. The gateway
/// serves all the same: most of the time it takes far less than it may.
pub(crate) fn tell(config: &Config) {
    let need = need(config);
    let may_take = size(need.total_bytes());
    let budget = budget(config);
    tracing::info!(
        board = %config.board.board,
        why = config.board.why,
        may_take,
        budget,
        "Limits that are not configured are those of the board."
    );
    match judge(config, &need) {
        MemoryVerdict::TooMuch => tracing::warn!(
            may_take,
            budget,
            "The configuration may take more memory than its budget: under load the kernel may end \
             the process. `tidegate check` says which keys to lower."
        ),
        MemoryVerdict::BudgetTooLarge => tracing::warn!(
            budget,
            "memory_budget is more than there is: under load the kernel may end the process."
        ),
        MemoryVerdict::Fits | MemoryVerdict::Unknown => {}
    }
}

#[cfg(test)]
mod tests {
    use firmware_config::Machine;

    use super::super::tests::config;
    use super::*;

    #[test]
    fn what_is_advised_fits() {
        for mib in (140..240).step_by(7) {
            let budget = format!("memory_budget = \"{mib}MiB\"\n");
            let advised = |text: &str| {
                let config = config(&format!("{budget}{text}"));
                let need = need(&config);
                (judge(&config, &need), advice(&config, &need))
            };
            // More than anything else.
            let large = "[limits]\nall_mailboxes_bytes_max = \"400MiB\"\n";
            let (verdict, text) = advised(large);
            assert_eq!(verdict, MemoryVerdict::TooMuch, "{mib}");
            let Some(value) = text.split(": ").nth(1) else {
                panic!("{text}");
            };
            let Some((value, _)) = value.split_once(" would fit") else {
                // The others alone are too large.
                assert!(!text.contains("would fit") && mib < 220, "{mib}: {text}");
                continue;
            };
            let smaller = format!("[limits]\nall_mailboxes_bytes_max = {value}\n");
            assert_eq!(advised(&smaller).0, MemoryVerdict::Fits, "{mib}: {text}");
        }
    }

    #[test]
    fn table_has_a_row_for_each_part_and_the_sum() {
        let need = need(&Config::without_file(&Machine::default()));
        let table = table(&need);
        assert_eq!(table.lines().count(), need.parts.len() + 2, "{table}");
        for (part, key) in need.by_keys() {
            let row = table.lines().find(|line| line.ends_with(key.path));
            let row = row.unwrap_or_else(|| panic!("{}: {table}", key.path));
            assert!(row.contains(&size(part.bytes)), "{row}");
        }
        assert!(table.contains("in all"), "{table}");
    }
}
