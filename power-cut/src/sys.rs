//! The file calls of libc, taken over: each does what it always did and tells the recorder.
//!
//! The executable's symbols replace the library's, so everything that the standard library and sled
//! do to files comes by here. The real calls are raw system calls, since libc's own names now lead
//! back to this file. What comes by none of these names (rustix calls the kernel itself, libc has
//! others that nobody uses here) would be missed; the recorder therefore compares the folder with
//! its record after each run.
//!
//! The variadic functions (`open`) are defined with their third argument: on the processors that
//! this runs on it is passed in the same register either way.
//!
//! Offsets have 64 bits. Where libc's own `off_t` has 32 (glibc on 32-bit ARM), the standard library
//! and sled call the names that end with 64, and only those are taken over.
#![allow(
    unsafe_code,
    reason = "the one file of the crate that may hold it; `cargo xtask tidy` looks for others"
)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libc::{iovec, mode_t, size_t, ssize_t};
// musl has one width only, and these names for it.
#[cfg(not(target_env = "gnu"))]
use libc::{fstat as fstat64, lseek as lseek64, stat as stat64};
#[cfg(target_env = "gnu")]
use libc::{fstat64, lseek64, stat64};

use crate::recorder::{self, Inode};

/// The result of a raw system call as the functions of libc give it.
fn int(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

fn size(result: c_long) -> ssize_t {
    ssize_t::try_from(result).unwrap_or(-1)
}

/// What a system call says of an open file.
pub(crate) fn inode_of(fd: c_int) -> Option<Inode> {
    let mut stat = stat_of_zeros();
    // SAFETY: the pointer is to a valid stat of this call's own; a bad descriptor gives EBADF.
    let answer = unsafe { fstat64(fd, &raw mut stat) };
    let (device, number) = (stat.st_dev, stat.st_ino);
    (answer == 0).then_some(Inode { device, number })
}

fn stat_of_zeros() -> stat64 {
    // SAFETY: stat is plain integers, for which all zeros is a value.
    unsafe { mem::zeroed() }
}

/// Where the next `write` of a descriptor goes.
fn position_of(fd: c_int) -> u64 {
    // SAFETY: takes integers; a bad descriptor gives ESPIPE or EBADF.
    let position = unsafe { lseek64(fd, 0, libc::SEEK_CUR) };
    u64::try_from(position).unwrap_or(0)
}

/// The path behind a pointer that a caller of libc gave.
///
/// # Safety
/// It is a string with a zero at its end that lives as long as the result is used.
unsafe fn path_at<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: the caller's promise is this one.
    let text = unsafe { CStr::from_ptr(path) };
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

/// The bytes behind a pointer that a caller of libc gave.
///
/// # Safety
/// There are `length` readable bytes that nobody changes while the result is used.
unsafe fn bytes_at<'a>(data: *const c_void, length: size_t) -> &'a [u8] {
    if data.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise is this one.
    unsafe { std::slice::from_raw_parts(data.cast(), length) }
}

/// The parts of a gathering write in one piece.
///
/// # Safety
/// There are `count` parts, each with as many readable bytes as it says.
unsafe fn gathered(parts: *const iovec, count: c_int) -> Vec<u8> {
    let mut all = Vec::new();
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller's promise covers part `index` and the bytes that it names.
        unsafe {
            let part = *parts.add(index);
            all.extend_from_slice(bytes_at(part.iov_base, part.iov_len));
        }
    }
    all
}

// The system calls

fn sys_openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the kernel checks the pointer; nothing of ours is written to.
    int(unsafe { libc::syscall(libc::SYS_openat, directory, path, flags, mode) })
}

fn sys_write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: the kernel checks the pointer; nothing of ours is written to.
    size(unsafe { libc::syscall(libc::SYS_write, fd, data, length) })
}

#[cfg(target_pointer_width = "64")]
fn sys_pwrite(fd: c_int, data: *const c_void, length: size_t, offset: i64) -> ssize_t {
    // SAFETY: the kernel checks the pointer; nothing of ours is written to.
    size(unsafe { libc::syscall(libc::SYS_pwrite64, fd, data, length, offset) })
}

/// The two registers that a 64-bit argument takes on a 32-bit processor. It begins at one with an
/// even number (ARM's EABI), for which the calls below pass a 0 where that needs it.
#[cfg(target_pointer_width = "32")]
fn halves(value: i64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

#[cfg(target_pointer_width = "32")]
fn sys_pwrite(fd: c_int, data: *const c_void, length: size_t, offset: i64) -> ssize_t {
    let (low, high) = halves(offset);
    // SAFETY: the kernel checks the pointer; nothing of ours is written to.
    size(unsafe { libc::syscall(libc::SYS_pwrite64, fd, data, length, 0, low, high) })
}

fn sys_writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the kernel checks the pointers; nothing of ours is written to.
    size(unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) })
}

#[cfg(target_pointer_width = "64")]
fn sys_ftruncate(fd: c_int, length: i64) -> c_int {
    // SAFETY: takes integers only.
    int(unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) })
}

#[cfg(target_pointer_width = "32")]
fn sys_ftruncate(fd: c_int, length: i64) -> c_int {
    let (low, high) = halves(length);
    // SAFETY: takes integers only.
    int(unsafe { libc::syscall(libc::SYS_ftruncate64, fd, 0, low, high) })
}

#[cfg(target_pointer_width = "64")]
fn sys_fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int {
    // SAFETY: takes integers only.
    int(unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, offset, length) })
}

#[cfg(target_pointer_width = "32")]
fn sys_fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int {
    let ((low, high), (length_low, length_high)) = (halves(offset), halves(length));
    // SAFETY: takes integers only.
    int(unsafe {
        libc::syscall(
            libc::SYS_fallocate,
            fd,
            mode,
            low,
            high,
            length_low,
            length_high,
        )
    })
}

fn sys_fsync(fd: c_int) -> c_int {
    // SAFETY: takes an integer only.
    int(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

fn sys_fdatasync(fd: c_int) -> c_int {
    // SAFETY: takes an integer only.
    int(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

fn sys_renameat(from: (c_int, *const c_char), to: (c_int, *const c_char)) -> c_int {
    // SAFETY: the kernel checks the pointers; nothing of ours is written to.
    int(unsafe { libc::syscall(libc::SYS_renameat2, from.0, from.1, to.0, to.1, 0) })
}

fn sys_unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the kernel checks the pointer; nothing of ours is written to.
    int(unsafe { libc::syscall(libc::SYS_unlinkat, directory, path, flags) })
}

fn sys_mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the kernel checks the pointer; nothing of ours is written to.
    int(unsafe { libc::syscall(libc::SYS_mkdirat, directory, path, mode) })
}

// The functions of libc. Their contracts are libc's, so each is unsafe to call.

// Its caller passes a string, as for openat(2).
unsafe fn opened(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 || !recorder::is_recording() {
        return sys_openat(directory, path, flags, mode);
    }
    // SAFETY: the caller of open passed a string.
    let name = unsafe { path_at(path) };
    let truncates = flags & libc::O_TRUNC != 0;
    recorder::opening(directory, name, truncates, || {
        sys_openat(directory, path, flags, mode)
    })
}

// open(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as our caller promised open(2).
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

// open(2), as the standard library calls it on glibc
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as our caller promised open(2).
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

// openat(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: as our caller promised openat(2).
    unsafe { opened(directory, path, flags, mode) }
}

// openat(2), as the standard library calls it on glibc
#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: as our caller promised openat(2).
    unsafe { opened(directory, path, flags, mode) }
}

// creat(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    // SAFETY: as our caller promised creat(2).
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

// write(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
    if !recorder::is_recording() {
        return sys_write(fd, data, length);
    }
    // SAFETY: as our caller promised write(2).
    let content = unsafe { bytes_at(data, length) };
    recorder::writing(inode_of(fd), content, || {
        let at = position_of(fd);
        (sys_write(fd, data, length), at)
    })
}

// pwrite(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    offset: i64,
) -> ssize_t {
    if !recorder::is_recording() {
        return sys_pwrite(fd, data, length, offset);
    }
    // SAFETY: as our caller promised pwrite(2).
    let content = unsafe { bytes_at(data, length) };
    recorder::writing(inode_of(fd), content, || {
        let at = u64::try_from(offset).unwrap_or(0);
        (sys_pwrite(fd, data, length, offset), at)
    })
}

// pwrite(2)
#[cfg(target_pointer_width = "64")]
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    offset: i64,
) -> ssize_t {
    // SAFETY: as our caller promised pwrite(2).
    unsafe { pwrite64(fd, data, length, offset) }
}

// writev(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if !recorder::is_recording() {
        return sys_writev(fd, parts, count);
    }
    // SAFETY: as our caller promised writev(2).
    let content = unsafe { gathered(parts, count) };
    recorder::writing(inode_of(fd), &content, || {
        let at = position_of(fd);
        (sys_writev(fd, parts, count), at)
    })
}

// ftruncate(2)
#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    if !recorder::is_recording() {
        return sys_ftruncate(fd, length);
    }
    let bytes = u64::try_from(length).unwrap_or(0);
    recorder::resizing(inode_of(fd), |_| bytes, || sys_ftruncate(fd, length))
}

// ftruncate(2)
#[cfg(target_pointer_width = "64")]
#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, length: i64) -> c_int {
    ftruncate64(fd, length)
}

// fallocate(2); with other modes than 0 it would change the folder unseen, which is noticed at the end
#[unsafe(no_mangle)]
extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int {
    if mode != 0 || !recorder::is_recording() {
        return sys_fallocate(fd, mode, offset, length);
    }
    let end = u64::try_from(offset.saturating_add(length)).unwrap_or(0);
    let grown = |bytes: u64| bytes.max(end);
    recorder::resizing(inode_of(fd), grown, || {
        sys_fallocate(fd, mode, offset, length)
    })
}

// fallocate(2)
#[cfg(target_pointer_width = "64")]
#[unsafe(no_mangle)]
extern "C" fn fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int {
    fallocate64(fd, mode, offset, length)
}

// fsync(2)
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    if !recorder::is_recording() {
        return sys_fsync(fd);
    }
    recorder::syncing(inode_of(fd), recorder::Call::Fsync, || sys_fsync(fd))
}

// fdatasync(2); the store's `sync_file_range` comes by here, too
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    if !recorder::is_recording() {
        return sys_fdatasync(fd);
    }
    recorder::syncing(inode_of(fd), recorder::Call::Fdatasync, || {
        sys_fdatasync(fd)
    })
}

// renameat(2); the store's `rename` comes by here, too
#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    let call = || sys_renameat((from_directory, from), (to_directory, to));
    if !recorder::is_recording() {
        return call();
    }
    // SAFETY: the caller of renameat passed two strings.
    let (old, new) = unsafe { (path_at(from), path_at(to)) };
    recorder::renaming((from_directory, old), (to_directory, new), call)
}

// unlinkat(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    if !recorder::is_recording() {
        return sys_unlinkat(directory, path, flags);
    }
    // SAFETY: the caller of unlinkat passed a string.
    let name = unsafe { path_at(path) };
    recorder::removing(directory, name, || sys_unlinkat(directory, path, flags))
}

// unlink(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as our caller promised unlink(2).
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

// rmdir(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: as our caller promised rmdir(2).
    unsafe { unlinkat(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

// mkdirat(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    if !recorder::is_recording() {
        return sys_mkdirat(directory, path, mode);
    }
    // SAFETY: the caller of mkdirat passed a string.
    let name = unsafe { path_at(path) };
    recorder::making(directory, name, || sys_mkdirat(directory, path, mode))
}

// mkdir(2)
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: as our caller promised mkdir(2).
    unsafe { mkdirat(libc::AT_FDCWD, path, mode) }
}
