//! What all pages have in common.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// Which edition of the manual this is; it stands at the foot of each page.
#[derive(Debug)]
pub(crate) struct Edition {
    /// A day such as 2026-11-24.
    pub(crate) date: String,
    pub(crate) version: &'static str,
}

/// The manual's name, at the head of each page.
pub(crate) const MANUAL: &str = "Tidegate Manual";

/// A page under its file's name.
#[derive(Debug)]
pub(crate) struct Page {
    /// Such as `tidegate-run.1`.
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

/// The last section: other pages, by name and section.
pub(crate) fn see_also(roff: &mut Roff, pages: &[(String, &str)]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line: Vec<Inline> = Vec::new();
    for (name, section) in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.push(bold(name.as_str()));
        line.push(roman(format!("({section})")));
    }
    roff.text(line);
}
