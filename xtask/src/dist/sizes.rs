//! Which crate takes how many bytes of a binary, by its symbols.
//!
//! A symbol is counted for the crate that its name begins with; an implementation of a trait for a type
//! (`<A as B>`) for the crate of the type, as far as that is in the name. What is inlined is where it was
//! inlined to, and what has no symbol (text of messages, tables of unwinding) is of no crate.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// Crates that have a line of their own.
const LINES: usize = 25;

/// Bytes by crate, the largest first, then by section of the file.
pub(super) fn table(binary: &[u8]) -> Result<String> {
    let file = object::File::parse(binary)?;
    let mut crates: BTreeMap<String, u64> = BTreeMap::new();
    let mut total = 0;
    for symbol in file.symbols().filter(|symbol| symbol.is_definition()) {
        let name = symbol.name().unwrap_or_default();
        *crates.entry(crate_of(name)).or_default() += symbol.size();
        total += symbol.size();
    }
    let mut crates: Vec<_> = crates.into_iter().collect();
    crates.sort_by_key(|(name, bytes)| (std::cmp::Reverse(*bytes), name.clone()));
    let mut text = String::new();
    for (name, bytes) in crates.iter().take(LINES) {
        writeln!(text, "{bytes:>9}  {name}")?;
    }
    let others: u64 = crates.iter().skip(LINES).map(|(_, bytes)| bytes).sum();
    writeln!(
        text,
        "{others:>9}  {} others",
        crates.len().saturating_sub(LINES)
    )?;
    writeln!(text, "{total:>9}  all symbols\n")?;
    for section in file.sections() {
        let name = section.name().unwrap_or_default();
        let is_loaded = !name.starts_with(".debug") && section.address() != 0;
        if is_loaded && section.size() >= 10_000 {
            writeln!(text, "{:>9}  section {name}", section.size())?;
        }
    }
    Ok(text)
}

/// The crate in a mangled name; symbols of C are of `C and assembler`.
fn crate_of(symbol: &str) -> String {
    let unknown = || String::from("C and assembler");
    let Some(path) = symbol.strip_prefix("_ZN") else {
        return unknown();
    };
    let digits = path.chars().take_while(char::is_ascii_digit).count();
    let (length, rest) = path.split_at(digits);
    let first = length
        .parse()
        .ok()
        .and_then(|length: usize| rest.get(..length));
    let Some(first) = first else {
        return unknown();
    };
    // `<`, and what stands before the name of a type: references, pointers, slices, parentheses.
    let mut name = first.trim_start_matches('_');
    while let Some((_, behind)) = name.strip_prefix('$').and_then(|n| n.split_once('$')) {
        name = behind
            .trim_start_matches("mut")
            .trim_start_matches("const")
            .trim_start_matches("dyn");
        name = name.trim_start_matches(['_', ' ']);
    }
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
    let name = name.get(..end.unwrap_or(name.len())).unwrap_or(name);
    if name
        .chars()
        .next()
        .is_none_or(|first| !first.is_ascii_lowercase())
    {
        // `<T as …>` and the like.
        return String::from("generics");
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{crate_of, table};

    #[test]
    fn symbols_are_told_by_crate() {
        let legacy = "17h0123456789abcdefE";
        let of = |path: &str| crate_of(&format!("_ZN{path}{legacy}"));
        assert_eq!(of("4sled4tree4open"), "sled");
        let implementation = "_$LT$storage..store..Store$u20$as$u20$core..ops..Drop$GT$";
        assert_eq!(
            of(&format!("{}{implementation}4drop", implementation.len())),
            "storage"
        );
        let reference = "_$LT$$RF$mqtt..Packet$u20$as$u20$core..fmt..Debug$GT$";
        assert_eq!(of(&format!("{}{reference}3fmt", reference.len())), "mqtt");
        let generic = "_$LT$T$u20$as$u20$core..any..Any$GT$";
        assert_eq!(
            of(&format!("{}{generic}7type_id", generic.len())),
            "generics"
        );
        assert_eq!(crate_of("memcpy"), "C and assembler");
        assert_eq!(crate_of("_ZN999x"), "C and assembler");
    }

    #[test]
    fn own_program_has_a_table() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let table = table(&own).unwrap();
        assert!(
            table.contains("  xtask\n") && table.contains("section .text"),
            "{table}"
        );
    }
}
