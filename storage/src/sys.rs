//! The only unsafe code of this crate: the durability fence, and the calls that have no safe wrapper.
//!
//! One foreign call a function, each with its reason. Everything else in the crate is safe Rust.
#![allow(
    unsafe_code,
    reason = "the one file of the crate that may hold it; `cargo xtask tidy` looks for others"
)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint};
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::durable_file::sync_directory;

/// How often the fence below was called since the process started.
static FENCE_CALLS: AtomicU64 = AtomicU64::new(0);
/// Bytes that were written before those calls.
static FENCE_BYTES: AtomicU64 = AtomicU64::new(0);

/// Takes the place of libc's `sync_file_range` in every binary that links this crate.
///
/// sled 0.34 calls `sync_file_range` after each write of its log, takes the range for stable from
/// then on, acknowledges a flush by it and reuses freed segments by it. The system call neither
/// commits a file's size and extents nor empties the drive's cache, so a power cut loses data or
/// leaves a database that does not open. `fdatasync` does both (docs/decisions/0002).
///
/// A failure is returned as -1 with `errno`, which sled turns into an error of the whole database.
#[unsafe(no_mangle)]
unsafe extern "C" fn sync_file_range(
    fd: c_int,
    _offset: i64,
    length: i64,
    _flags: c_uint,
) -> c_int {
    FENCE_CALLS.fetch_add(1, Ordering::Relaxed);
    // sled asks for exactly the range that it has just written.
    FENCE_BYTES.fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
    // SAFETY: fdatasync takes any integer and answers one that is no open file with EBADF.
    unsafe { libc::fdatasync(fd) }
}

/// How often the `rename` below was called since the process started.
static RENAMES: AtomicU64 = AtomicU64::new(0);

/// Takes the place of libc's `rename` in every binary that links this crate.
///
/// sled 0.34 gives a snapshot its name when it opens a database, and at once fills with zeros what is
/// free according to it. Of a power cut that leaves the zeros and not the name, nothing recovers: without
/// the snapshot sled takes the zeros for the end of its log, and a database of megabytes for a new one.
/// So the directory is synced before `rename` returns (docs/decisions/0018).
///
/// A failure is returned as -1 with `errno`, also one of the sync: the name is there then, and sled
/// gives up opening.
///
/// # Safety
///
/// As rename(2): both are strings that end with zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    RENAMES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: renameat asks of the two what rename asks.
    let answer = unsafe { libc::renameat(libc::AT_FDCWD, from, libc::AT_FDCWD, to) };
    if answer != 0 {
        return answer;
    }
    match directory_of_snapshot(to).map(|directory| sync_directory(&directory)) {
        // Closing a directory does not change the `errno` of its sync.
        Some(Err(_)) => -1,
        Some(Ok(())) | None => 0,
    }
}

/// Where the file is, if it has a name as sled's snapshots have.
fn directory_of_snapshot(path: *const c_char) -> Option<PathBuf> {
    // SAFETY: rename has just taken it for a string.
    let path = unsafe { CStr::from_ptr(path) };
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let name = path.file_name()?.as_bytes();
    (name.starts_with(b"snap.")).then(|| path.parent().map(Path::to_owned))?
}

/// How often `rename` was called since the process started.
pub(crate) fn renames() -> u64 {
    RENAMES.load(Ordering::Relaxed)
}

/// How often the fence was called since the process started.
pub(crate) fn fence_calls() -> u64 {
    FENCE_CALLS.load(Ordering::Relaxed)
}

/// Bytes that sled wrote and brought through the fence since the process started.
pub(crate) fn fence_bytes() -> u64 {
    FENCE_BYTES.load(Ordering::Relaxed)
}

/// A `timex` that asks for nothing to be changed.
fn timex_of_zeros() -> libc::timex {
    // SAFETY: timex is plain integers, for which all zeros is a value; modes = 0 changes nothing.
    unsafe { mem::zeroed() }
}

/// The largest error of the wall clock in microseconds as the kernel knows it, or `None` while no
/// time service has set the clock (see adjtimex(2), `TIME_ERROR` and `STA_UNSYNC`).
pub(crate) fn wall_clock_error_us() -> Option<u64> {
    let mut state = timex_of_zeros();
    // SAFETY: the pointer is to a valid timex of this call's own; modes = 0 only reads.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    let synchronised =
        answer >= 0 && answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0;
    synchronised.then(|| u64::try_from(state.maxerror).unwrap_or(0))
}

/// Gives memory that the allocator keeps for later back to the system.
///
/// glibc keeps the pages of a closed segment's cache; on a small board they are needed elsewhere.
#[cfg(target_env = "gnu")]
pub(crate) fn release_free_memory() {
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give freed pages back by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn release_free_memory() {}
