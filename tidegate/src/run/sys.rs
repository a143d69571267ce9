//! The one unsafe call of this crate: taking over what a service manager has opened for us.
#![allow(
    unsafe_code,
    reason = "the one file of the crate that may hold it; `cargo xtask tidy` looks for others"
)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Makes a descriptor that was passed to this process its own, to be closed by whoever drops it.
///
/// Only for those that the service manager passed by `LISTEN_FDS`, each once, before the process opens
/// anything: so nobody else in it can have the number.
pub(super) fn own_passed(descriptor: RawFd) -> OwnedFd {
    // SAFETY: `sd_notify::listen_fds` has just found it open, it was opened for this process
    // (`LISTEN_PID`), and by the above nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
