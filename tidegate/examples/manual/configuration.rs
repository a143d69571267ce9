//! Section 5: `tidegate.toml`, from the list of keys, which knows what is allowed and what holds by
//! default, and from the reference, which says what each key does.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use clap_mangen::roff::{Roff, bold, italic, roman};
use firmware_config::{Availability, Key, keys};

use crate::page::{Edition, MANUAL, Page, see_also};

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

const DESCRIPTION: &[&str] = &[
    "Tidegate reads one TOML file. Every mistake in it is reported at once, with file, line, column, key, what \
     was found and what is allowed; a key that is not known is refused. tidegate check judges a file without \
     starting anything, and with --print shows the configuration in force.",
    "A size is a whole number and a unit: B, kB, MB, GB, TB (1000) or KiB, MiB, GiB, TiB (1024); a number without \
     quotes is bytes. A duration is a whole number and one of ms, s, m, h, d. An address is an IP address and a \
     port, IPv6 in brackets.",
    "Below, log[].name is the key name in each [[log]], and limits.inflight_max the key inflight_max in [limits]. \
     Required holds within a table that is there.",
];

pub(crate) fn page(edition: &Edition) -> Result<Page> {
    let source = format!("tidegate {}", edition.version);
    let mut roff = Roff::new();
    roff.control("TH", ["TIDEGATE.TOML", "5", &edition.date, &source, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(
        "tidegate.toml - configuration of the Tidegate edge broker",
    )]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("/etc/tidegate/tidegate.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in DESCRIPTION {
        roff.control("PP", []);
        roff.text([roman(*paragraph)]);
    }
    let meanings = meanings();
    let mut table = None;
    roff.control("SH", ["KEYS"]);
    for key in keys() {
        if key.availability == Availability::Later {
            continue;
        }
        let of_key = heading(&key.path);
        if table.as_ref() != Some(&of_key) {
            roff.control("SS", [of_key.as_str()]);
            table = Some(of_key);
        }
        let meaning = meanings.get(key.path.as_str());
        let meaning = meaning
            .with_context(|| format!("docs/configuration.md has no row for {}", key.path))?;
        entry(&mut roff, &key, meaning);
    }
    see_also(
        &mut roff,
        &[
            (String::from("tidegate"), "1"),
            (String::from("tidegate-check"), "1"),
        ],
    );
    Ok(Page {
        name: String::from("tidegate.toml.5"),
        text: roff.to_roff().into_bytes(),
    })
}

fn entry(roff: &mut Roff, key: &Key, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(key.path.as_str())]);
    roff.text([roman(plain(meaning))]);
    roff.control("br", []);
    roff.text([
        italic("Allowed:"),
        roman(format!(" {}.", plain(&key.allowed))),
    ]);
    roff.control("br", []);
    roff.text([
        italic("Default:"),
        roman(format!(" {}.", plain(&key.default))),
    ]);
}

/// The table that a key stands in, as the file writes it.
fn heading(path: &str) -> String {
    let Some((table, _)) = path.rsplit_once('.') else {
        return String::from("At the top of the file");
    };
    match table.strip_suffix("[]") {
        Some(list) => format!("[[{list}]]"),
        None => format!("[{table}]"),
    }
}

/// What each key does: the last cell of its row.
fn meanings() -> HashMap<&'static str, &'static str> {
    let rows = REFERENCE.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| {
        let row = row.trim_matches('|');
        let (key, _) = row.split_once(" | ")?;
        let (_, meaning) = row.rsplit_once(" | ")?;
        Some((key.trim().trim_matches('`'), meaning.trim()))
    });
    cells.collect()
}

/// Text of the reference without its marks; of a link, the words.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (before, words) = before.rsplit_once('[').unwrap_or((before, ""));
        plain.push_str(before);
        plain.push_str(words);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain.replace(['`', '*'], "")
}
