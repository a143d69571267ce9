//! Child processes that end with this process, even if that is killed: the kernel kills them then
//! (`PR_SET_PDEATHSIG`).
//!
//! A process can only ask for that itself, so the child is first this program, which asks and then
//! becomes the other one.
//!
//! Invariant: the signal comes when the *thread* that started the child ends, so only the main
//! thread may start one.

use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};

/// Binds this process to the life of its parent.
///
/// # Errors
/// The parent is not `parent`, because that has ended meanwhile; or the system refuses.
pub(crate) fn end_with_parent(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("ask to end with the parent process")?;
    // Only now is its end noticed; an earlier one shows here.
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(parent) {
        bail!("process {parent}, which started this one, has ended");
    }
    Ok(())
}

/// Becomes another program; returns only if that fails.
pub(crate) fn become_program(command: &mut Command) -> anyhow::Error {
    use std::os::unix::process::CommandExt as _;
    let program = command.get_program().to_string_lossy().into_owned();
    anyhow::Error::from(command.exec()).context(format!("start {program}"))
}
