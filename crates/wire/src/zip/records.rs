//! The records of an archive in the making, whatever its dialect.

use super::*;
use crate::shown;
use modelferry_core::error::{Error, Result};
use zip::ZIP64_BYTES_THR;

/// "Made by" Unix.
pub(super) const MADE_BY_UNIX: u16 = 3 << 8;
/// Version 4.5, the first with zip64 (APPNOTE 4.4.3.2).
pub(super) const VERSION_ZIP64: u16 = 45;

/// Why an archive cannot hold an entry.
pub(super) fn refusal(name: &str, what: &str) -> Error {
    Error::target(format!("a zip archive cannot hold entry {:?}: {what}", shown(name)))
}

/// Refuses what is no name of an entry.
pub(super) fn check_name(name: &str) -> Result<()> {
    if u16::try_from(name.len()).is_err() {
        return Err(refusal(name, "its name is too long")
            .expected("at most 65535 bytes")
            .found(format_args!("{} bytes", name.len())));
    }
    if name.contains('\0') {
        return Err(refusal(name, "its name contains a NUL"));
    }
    Ok(())
}

/// What the two headers of a stored entry say. CRCs are zeros for now.
pub(super) struct Header<'a> {
    /// Checked by [`check_name`].
    pub(super) name: &'a str,
    pub(super) version: u16,
    pub(super) flags: u16,
    pub(super) date: u16,
    /// Both lengths; all ones where a zip64 field says more.
    pub(super) len: u32,
    pub(super) extra: &'a [u8],
}

impl Header<'_> {
    /// The header before the payload.
    pub(super) fn local(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(LOCAL_BYTES as usize + self.name.len() + self.extra.len());
        out.extend_from_slice(&LOCAL_MAGIC);
        self.common(&mut out)?;
        self.name_and_extra(&mut out);
        Ok(out)
    }

    /// The header in the directory.
    pub(super) fn central(
        &self,
        directory: &mut Vec<u8>,
        made_by: u16,
        attributes: u32,
        header_at: u64,
    ) -> Result<()> {
        directory.extend_from_slice(&CENTRAL_MAGIC);
        directory.extend_from_slice(&made_by.to_le_bytes());
        self.common(directory)?;
        // No comment, first disk, not text.
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&attributes.to_le_bytes());
        directory.extend_from_slice(&short(header_at).to_le_bytes());
        self.name_and_extra(directory);
        Ok(())
    }

    fn common(&self, out: &mut Vec<u8>) -> Result<()> {
        let too_long = |_| refusal(self.name, "its extra fields are too long");
        let extra_len = u16::try_from(self.extra.len()).map_err(too_long)?;
        // Stored, at midnight.
        for field in [self.version, self.flags, 0, 0, self.date] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for field in [0, self.len, self.len] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.name.len() as u16, extra_len] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        Ok(())
    }

    fn name_and_extra(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(self.extra);
    }
}

/// A number that a zip64 record says again, where it does not fit.
pub(super) fn short(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Whether a length or position needs zip64.
pub(super) fn is_wide(value: u64) -> bool {
    value >= ZIP64_BYTES_THR
}

/// The zip64 field; nothing without values.
pub(super) fn put_zip64(extra: &mut Vec<u8>, values: &[u64]) {
    if values.is_empty() {
        return;
    }
    extra.extend_from_slice(&ZIP64_ID.to_le_bytes());
    extra.extend_from_slice(&(8 * values.len() as u16).to_le_bytes());
    for value in values {
        extra.extend_from_slice(&value.to_le_bytes());
    }
}

/// Appends the end records to a directory that begins at `at`. `made_by` is that of the zip64 record, without which
/// none is written.
pub(super) fn put_end(
    directory: &mut Vec<u8>,
    at: u64,
    n_members: u64,
    zip64_made_by: Option<u16>,
) -> Result<()> {
    let directory_len = directory.len() as u64;
    let end64_at = at
        .checked_add(directory_len)
        .filter(|end| end.checked_add(END64_BYTES + LOCATOR_BYTES + END_BYTES).is_some())
        .ok_or_else(|| Error::target("the zip archive is too large"))?;
    if let Some(made_by) = zip64_made_by {
        directory.extend_from_slice(&END64_MAGIC);
        directory.extend_from_slice(&(END64_BYTES - 12).to_le_bytes());
        directory.extend_from_slice(&made_by.to_le_bytes());
        directory.extend_from_slice(&VERSION_ZIP64.to_le_bytes());
        directory.extend_from_slice(&[0; 8]);
        for field in [n_members, n_members, directory_len, at] {
            directory.extend_from_slice(&field.to_le_bytes());
        }
        directory.extend_from_slice(&LOCATOR_MAGIC);
        directory.extend_from_slice(&[0; 4]);
        directory.extend_from_slice(&end64_at.to_le_bytes());
        directory.extend_from_slice(&1u32.to_le_bytes());
    }
    directory.extend_from_slice(&END_MAGIC);
    let n_short = u16::try_from(n_members).unwrap_or(u16::MAX);
    for field in [0, 0, n_short, n_short] {
        directory.extend_from_slice(&field.to_le_bytes());
    }
    for field in [short(directory_len), short(at)] {
        directory.extend_from_slice(&field.to_le_bytes());
    }
    directory.extend_from_slice(&[0; 2]);
    Ok(())
}
