//! Files of which no block can be read: reading them fails with EIO, as on a card that lost them.
//!
//! A file is known by what it is and not by its name: one that is written anew under the name can be
//! read, as its blocks lie elsewhere.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "a test's file that may hold it; a test may stop at the first surprise"
)]

use std::ffi::{c_int, c_long, c_void};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Device and number of each file that cannot be read, and how often that was tried.
static UNREADABLE: Mutex<Vec<((u64, u64), u64)>> = Mutex::new(Vec::new());

/// A file that cannot be read as long as this is there.
pub(crate) struct Unreadable {
    /// Open, so that no other file gets the number when this one is removed.
    _file: File,
    identity: (u64, u64),
}

impl Unreadable {
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let metadata = file.metadata().unwrap();
        let identity = (metadata.dev(), metadata.ino());
        let mut all = UNREADABLE.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((identity, 0));
        Self {
            _file: file,
            identity,
        }
    }

    /// How often somebody tried to read it.
    pub(crate) fn attempts(&self) -> u64 {
        let all = UNREADABLE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().find(|(identity, _)| *identity == self.identity);
        found.unwrap().1
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        let mut all = UNREADABLE.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(identity, _)| *identity != self.identity);
    }
}

/// Whether reading this fails; sets `errno` then.
fn fails(fd: c_int) -> bool {
    let mut all = UNREADABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if all.is_empty() {
        return false;
    }
    let identity = identity(fd);
    let found = all.iter_mut().find(|(file, _)| Some(*file) == identity);
    let Some((_, attempts)) = found else {
        return false;
    };
    *attempts += 1;
    set_errno(libc::EIO);
    true
}

fn identity(fd: c_int) -> Option<(u64, u64)> {
    if fd < 0 {
        return None;
    }
    // SAFETY: it is what somebody reads from now, and is not kept; one that is closed gives EBADF.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let stat = rustix::fs::fstat(file).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

fn set_errno(code: c_int) {
    // SAFETY: the place is this thread's own.
    unsafe { *libc::__errno_location() = code }
}

/// Takes the place of libc's `read`: so sled reads its snapshots and its configuration.
///
/// # Safety
///
/// As read(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize {
    if fails(fd) {
        return -1;
    }
    // SAFETY: the system call is asked what this was asked.
    let answer: c_long = unsafe { libc::syscall(libc::SYS_read, fd, buffer, count) };
    isize::try_from(answer).unwrap_or(-1)
}

/// Takes the place of libc's `pread64`: so sled reads its pages.
///
/// # Safety
///
/// As pread(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn pread64(fd: c_int, buffer: *mut c_void, count: usize, at: i64) -> isize {
    if fails(fd) {
        return -1;
    }
    sys_pread(fd, buffer, count, at)
}

/// The same where the C library has one width of offsets, and this name for it (musl).
///
/// # Safety
///
/// As pread(2).
#[cfg(not(target_env = "gnu"))]
#[unsafe(no_mangle)]
unsafe extern "C" fn pread(fd: c_int, buffer: *mut c_void, count: usize, at: i64) -> isize {
    // SAFETY: as our caller promised pread(2).
    unsafe { pread64(fd, buffer, count, at) }
}

#[cfg(target_pointer_width = "64")]
fn sys_pread(fd: c_int, buffer: *mut c_void, count: usize, at: i64) -> isize {
    // SAFETY: the kernel checks the pointer; whose it is, the caller of pread said.
    let answer: c_long = unsafe { libc::syscall(libc::SYS_pread64, fd, buffer, count, at) };
    isize::try_from(answer).unwrap_or(-1)
}

/// On 32-bit ARM an offset takes two registers and begins at one with an even number.
#[cfg(target_pointer_width = "32")]
fn sys_pread(fd: c_int, buffer: *mut c_void, count: usize, at: i64) -> isize {
    let [a, b, c, d, e, f, g, h] = at.to_le_bytes();
    let low = u32::from_le_bytes([a, b, c, d]);
    let high = u32::from_le_bytes([e, f, g, h]);
    // SAFETY: the kernel checks the pointer; whose it is, the caller of pread said.
    let answer = unsafe { libc::syscall(libc::SYS_pread64, fd, buffer, count, 0, low, high) };
    isize::try_from(answer).unwrap_or(-1)
}
