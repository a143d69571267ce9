//! `tidegate log`: looks into the logs of a running gateway, by its admin server, or of a data folder
//! that nobody has open, which is not changed by it; and repairs such a folder.

mod export;
mod folder;
mod look;
mod progress;
mod repair;
mod time;
mod verify;

use crate::cli::log::{LogCommand, LogOptions};
use crate::exit::Failure;

pub(crate) use time::parse_time;

/// Does what is asked.
pub(crate) fn run(options: &LogOptions) -> Result<(), Failure> {
    match &options.command {
        LogCommand::Export(options) => export::export(options),
        LogCommand::List(options) => look::list(options),
        LogCommand::Read(options) => look::read(options),
        LogCommand::Repair(options) => repair::repair(options),
        LogCommand::Verify(options) => verify::verify(options),
    }
}
