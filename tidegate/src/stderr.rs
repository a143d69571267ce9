//! Saying something beside what a command prints.

use std::io::{self, Write as _};

/// Says a line on standard error. `eprintln!` would panic when nobody reads there any more.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "tidegate: {line}");
}
