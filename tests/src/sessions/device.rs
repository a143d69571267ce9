//! What the device below a folder has been given to write, by its own count.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Linux counts sectors of this size, whatever the device has.
const SECTOR_BYTES: u64 = 512;
/// Where sectors written stand in `stat` of a block device.
const WRITTEN: usize = 6;

/// Bytes written to the device on which this folder lies, by anybody, since the machine was started. `None`
/// if it lies on none, or the kernel does not say.
pub(super) fn written_bytes(folder: &Path) -> Option<u64> {
    let device = fs::metadata(folder).ok()?.dev();
    // As the C library's `major` and `minor` take a number of a device apart.
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = stat.split_whitespace().nth(WRITTEN)?.parse().ok()?;
    sectors.checked_mul(SECTOR_BYTES)
}
