//! Counts the syncs of this process, whoever asks for them: the store's databases, bare files, other
//! engines.
//!
//! The two functions that Rust's `File::sync_all` and `File::sync_data`, and the store's fence, end
//! in are defined here; in an executable these are found before those of the C library.
#![allow(unsafe_code, reason = "this is the file where it may stand")]

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How often a file was synced since the process began.
pub(crate) fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

// The name is the C library's, which this replaces.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the system call takes a number and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_fdatasync, file) };
    if result == 0 { 0 } else { -1 }
}

// The name is the C library's, which this replaces.
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the system call takes a number and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_fsync, file) };
    if result == 0 { 0 } else { -1 }
}

#[cfg(test)]
mod tests {
    use super::syncs;

    #[test]
    fn syncs_of_files_are_counted() {
        let file = tempfile::tempfile().unwrap();
        let before = syncs();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        // Other tests sync, too.
        assert!(syncs() >= before + 2);
    }
}
