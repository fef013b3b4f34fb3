//! Room on disk: how much there is, and how much a file with holes needs.

use crate::io::{File, Io, failed, is_unable, retry};
use modelferry_core::ErrorKind;
use modelferry_core::error::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// Fails unless the file system of `folder` has `needed` bytes free for a user without privileges.
///
/// What an output that is being replaced takes now does not count as free: it stays until the new one is complete.
/// A file system that does not tell its size is believed to have room. Quotas show only when space is reserved.
pub fn check_free(io: &dyn Io, folder: &Path, needed: u64) -> Result<()> {
    let space =
        retry(|| io.space(folder)).map_err(|error| failed("asking for its free space", folder, error))?;
    if space.total_bytes == 0 || space.available_bytes >= needed {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, "not enough free space")
        .file(folder.display())
        .expected(format_args!("{} ({needed} bytes)", human(needed)))
        .found(format_args!("{} ({} bytes)", human(space.available_bytes), space.available_bytes)))
}

/// The first run of data (not holes) in the bytes `within` of a file; none if they are one hole.
///
/// On a file system without [`seek_data`](Io::seek_data) all is data.
pub fn next_data(io: &dyn Io, file: &File, within: Range<u64>) -> Result<Option<Range<u64>>> {
    if within.is_empty() {
        return Ok(None);
    }
    let start = match retry(|| io.seek_data(file, within.start)) {
        Ok(Some(start)) if start < within.end => start,
        Ok(_) => return Ok(None),
        Err(error) if is_unable(&error) => return Ok(Some(within)),
        Err(error) => return Err(failed("looking for holes", file.path(), error).offset(within.start)),
    };
    match retry(|| io.seek_hole(file, start)) {
        // A hole at `start` would contradict the answer before; the file is being written to. Going on by a byte is
        // slow but ends.
        Ok(end) => Ok(Some(start..end.clamp(start + 1, within.end))),
        Err(error) => Err(failed("looking for holes", file.path(), error).offset(start)),
    }
}

/// Bytes of data in the bytes `within` of a file: what a copy of it needs on disk if its holes stay holes.
pub fn data_bytes(io: &dyn Io, file: &File, within: Range<u64>) -> Result<u64> {
    let mut at = within.start;
    let mut bytes = 0;
    while let Some(data) = next_data(io, file, at..within.end)? {
        bytes += data.end - data.start;
        at = data.end;
    }
    Ok(bytes)
}

/// A number of bytes for people: `12.3 GB`, in decimal units.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 and more would show as 1000.0 of the smaller unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
