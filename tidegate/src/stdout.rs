//! Printing what a command is for.
//!
//! `print!` panics when nobody reads any more (`tidegate log read … | head`) or when the disk is
//! full behind a redirection; the first is no failure, the second one with a reason.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Prints to standard output at once; whether somebody still reads there.
///
/// # Errors
/// It cannot be written for another reason.
pub(crate) fn print(text: &str) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("write to standard output"),
    }
}
