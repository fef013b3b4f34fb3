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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::OsIo;
    use crate::io::fault::{Call, Fault, FaultIo};
    use std::os::unix::fs::FileExt;

    #[test]
    fn numbers_are_readable() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (12_345_678_901, "12.3 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn a_full_disk_is_noticed_with_both_numbers() {
        let folder = std::env::temp_dir();
        check_free(&OsIo, &folder, 1).unwrap();
        let error = check_free(&OsIo, &folder, u64::MAX).unwrap_err();
        assert_eq!(error.kind().exit_code(), 14);
        let text = error.to_string();
        assert!(
            text.contains("not enough free space, expected 18.4 EB (18446744073709551615 bytes), found "),
            "{text}"
        );
        assert!(check_free(&OsIo, "/no such folder".as_ref(), 1).is_err());
    }

    #[test]
    fn holes_are_found_where_they_are() {
        let path = std::env::temp_dir().join(format!("modelferry-space-{}", std::process::id()));
        let writer = std::fs::File::create(&path).unwrap();
        writer.set_len(10 << 20).unwrap();
        writer.write_at(&[1; 65536], 1 << 20).unwrap();
        writer.write_at(&[1; 65536], 4 << 20).unwrap();
        writer.sync_all().unwrap();
        let file = OsIo.open_read(&path).unwrap();
        let extent = |start: u64| start..start + 65536;
        assert_eq!(next_data(&OsIo, &file, 0..10 << 20).unwrap(), Some(extent(1 << 20)));
        assert_eq!(next_data(&OsIo, &file, 2 << 20..10 << 20).unwrap(), Some(extent(4 << 20)));
        assert_eq!(next_data(&OsIo, &file, 2 << 20..3 << 20).unwrap(), None);
        assert_eq!(next_data(&OsIo, &file, 5 << 20..10 << 20).unwrap(), None);
        assert_eq!(next_data(&OsIo, &file, 7..7).unwrap(), None);
        assert_eq!(data_bytes(&OsIo, &file, 0..10 << 20).unwrap(), 2 * 65536);
        assert_eq!(data_bytes(&OsIo, &file, (1 << 20) + 100..(1 << 20) + 200).unwrap(), 100);
        let lacking = FaultIo::every(OsIo, &[Call::SeekData], Fault::Errno(22));
        assert_eq!(data_bytes(&lacking, &file, 0..10 << 20).unwrap(), 10 << 20);
        std::fs::remove_file(path).unwrap();
    }
}
