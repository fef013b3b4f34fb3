//! Laying an archive out: headers, positions and holes, no payload.

use super::*;
use crate::shown;
use modelferry_core::error::{Error, Result};
use zip::{ZIP64_BYTES_THR, ZIP64_ENTRY_THR};

/// 1980-01-01 00:00, the first moment a DOS time can name: outputs hold no clock.
const DOS_TIME: u16 = 0;
const DOS_DATE: u16 = 1 << 5 | 1;
/// Version 2.0, and 4.5 where zip64 is used (APPNOTE 4.4.3.2).
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// "Made by" Unix, so that the permissions below count.
const MADE_BY_UNIX: u16 = 3 << 8;
/// A regular file with mode 0644, where a Unix archive keeps it.
const ATTRIBUTES: u32 = 0o100_644 << 16;
const CRC_IN_LOCAL: u64 = 14;
const CRC_IN_CENTRAL: u64 = 16;

/// The extra field that pads a local header so that the payload is aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// 0xA11E: the alignment as a `u16`, then zeros. What the `zip` crate writes.
    #[default]
    Alignment,
    /// `FB`: filled with the letter Z. What torch writes.
    Torch,
}

/// A file to be put into an archive, stored.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The name, at most 65535 bytes, without NUL, unique in the archive.
    pub name: &'a str,
    /// Bytes of the payload.
    pub len: u64,
    /// The payload's position in the archive is a multiple of this; 0 and 1 ask for nothing.
    pub align: u16,
    /// How the gap is filled.
    pub padding: Padding,
    /// Whole extra fields for the local header.
    pub local_extra: &'a [u8],
    /// Whole extra fields for the directory.
    pub central_extra: &'a [u8],
}

/// Where a member lies. All positions count from the start of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The local header, to be written at [`header_at`](Placed::header_at), directly followed by the payload.
    pub header: Vec<u8>,
    /// Where the local header begins.
    pub header_at: u64,
    /// Where the payload begins.
    pub data_at: u64,
    /// Where the four little-endian bytes of the payload's CRC-32 go; zeros until then.
    pub crc_at: u64,
    /// Where they go a second time, counted from the start of [`Finished::bytes`].
    pub crc_in_directory: u64,
}

/// What follows the last payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Where it begins, counted from the start of the archive.
    pub at: u64,
    /// Directory and end records.
    pub bytes: Vec<u8>,
}

/// Lays out an archive of stored members, one after the other, for the CRCs to be filled in later.
///
/// zip64 is used only where a length, position or count needs it, so that small archives open everywhere. The bytes
/// are a function of the members alone.
///
/// ```
/// use modelferry_wire::zip::{Member, Padding, Writer};
///
/// let mut writer = Writer::default();
/// let member =
///     Member { name: "w.npy", len: 5, align: 64, padding: Padding::Alignment, local_extra: &[], central_extra: &[] };
/// let placed = writer.add(member).unwrap();
/// assert_eq!(placed.data_at, placed.header.len() as u64);
/// assert_eq!(placed.data_at % 64, 0);
/// let finished = writer.finish().unwrap();
/// assert_eq!(finished.at, placed.data_at + 5);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Writer {
    at: u64,
    n_members: u64,
    directory: Vec<u8>,
}

impl Writer {
    /// Places the next member directly after the one before.
    ///
    /// Errors of kind [`Target`](modelferry_core::error::ErrorKind::Target): a name or extra field that zip cannot
    /// hold, or an archive of more than 2^64 bytes.
    pub fn add(&mut self, member: Member<'_>) -> Result<Placed> {
        let Member { name, len, align, padding, local_extra, central_extra } = member;
        let refuse =
            |what: &str| Error::target(format!("a zip archive cannot hold entry {:?}: {what}", shown(name)));
        let name_len = u16::try_from(name.len()).map_err(|_| {
            refuse("its name is too long")
                .expected("at most 65535 bytes")
                .found(format_args!("{} bytes", name.len()))
        })?;
        if name.contains('\0') {
            return Err(refuse("its name contains a NUL"));
        }
        let header_at = self.at;
        let wide_len = len >= ZIP64_BYTES_THR;
        let wide_at = header_at >= ZIP64_BYTES_THR;
        let flags = if name.is_ascii() { 0 } else { FLAG_UTF8 };
        let version = if wide_len { VERSION_ZIP64 } else { VERSION };
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);

        let mut extra = Vec::new();
        if wide_len {
            put_zip64(&mut extra, &[len, len]);
        }
        extra.extend_from_slice(local_extra);
        let unaligned_at = header_at
            .checked_add(LOCAL_BYTES + name.len() as u64 + extra.len() as u64)
            .ok_or_else(|| refuse("the archive is too large"))?;
        pad(&mut extra, unaligned_at, align, padding).ok_or_else(|| refuse("the archive is too large"))?;
        let extra_len = u16::try_from(extra.len()).map_err(|_| refuse("its extra fields are too long"))?;

        let mut header = Vec::with_capacity(LOCAL_BYTES as usize + name.len() + extra.len());
        header.extend_from_slice(&LOCAL_MAGIC);
        for field in [version, flags, 0, DOS_TIME, DOS_DATE] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        for field in [0, if wide_len { u32::MAX } else { short(len) }, short(len)] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        header.extend_from_slice(&name_len.to_le_bytes());
        header.extend_from_slice(&extra_len.to_le_bytes());
        header.extend_from_slice(name.as_bytes());
        header.extend_from_slice(&extra);

        let data_at = header_at.checked_add(header.len() as u64);
        let end = data_at.and_then(|data_at| Some((data_at, data_at.checked_add(len)?)));
        let (data_at, end) = end.ok_or_else(|| refuse("the archive is too large"))?;

        let mut wide = Vec::new();
        if wide_len {
            wide.extend_from_slice(&[len, len]);
        }
        if wide_at {
            wide.push(header_at);
        }
        extra.clear();
        if !wide.is_empty() {
            put_zip64(&mut extra, &wide);
        }
        extra.extend_from_slice(central_extra);
        let extra_len = u16::try_from(extra.len()).map_err(|_| refuse("its extra fields are too long"))?;
        let version = if wide.is_empty() { VERSION } else { VERSION_ZIP64 };

        let crc_in_directory = self.directory.len() as u64 + CRC_IN_CENTRAL;
        self.directory.extend_from_slice(&CENTRAL_MAGIC);
        for field in [MADE_BY_UNIX | version, version, flags, 0, DOS_TIME, DOS_DATE] {
            self.directory.extend_from_slice(&field.to_le_bytes());
        }
        for field in [0, short(len), short(len)] {
            self.directory.extend_from_slice(&field.to_le_bytes());
        }
        // Name, extra field, no comment, first disk, not text.
        for field in [name_len, extra_len, 0, 0, 0] {
            self.directory.extend_from_slice(&field.to_le_bytes());
        }
        self.directory.extend_from_slice(&ATTRIBUTES.to_le_bytes());
        self.directory.extend_from_slice(&short(header_at).to_le_bytes());
        self.directory.extend_from_slice(name.as_bytes());
        self.directory.extend_from_slice(&extra);

        self.at = end;
        self.n_members += 1;
        Ok(Placed { header, header_at, data_at, crc_at: header_at + CRC_IN_LOCAL, crc_in_directory })
    }

    /// The directory and the end records. Error: an archive of more than 2^64 bytes.
    pub fn finish(self) -> Result<Finished> {
        let Writer { at, n_members, directory: mut bytes } = self;
        let directory_len = bytes.len() as u64;
        let end64_at = at
            .checked_add(directory_len)
            .filter(|end| end.checked_add(END64_BYTES + LOCATOR_BYTES + END_BYTES).is_some())
            .ok_or_else(|| Error::target("the zip archive is too large"))?;
        let n_short = u16::try_from(n_members).unwrap_or(u16::MAX);
        let wide = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        if n_members >= ZIP64_ENTRY_THR as u64 || directory_len >= ZIP64_BYTES_THR || at >= ZIP64_BYTES_THR {
            bytes.extend_from_slice(&END64_MAGIC);
            bytes.extend_from_slice(&(END64_BYTES - 12).to_le_bytes());
            bytes.extend_from_slice(&(MADE_BY_UNIX | VERSION_ZIP64).to_le_bytes());
            bytes.extend_from_slice(&VERSION_ZIP64.to_le_bytes());
            bytes.extend_from_slice(&[0; 8]);
            for field in [n_members, n_members, directory_len, at] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend_from_slice(&LOCATOR_MAGIC);
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&end64_at.to_le_bytes());
            bytes.extend_from_slice(&1u32.to_le_bytes());
        }
        bytes.extend_from_slice(&END_MAGIC);
        for field in [0, 0, n_short, n_short] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [wide(directory_len), wide(at)] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 2]);
        Ok(Finished { at, bytes })
    }
}

fn put_zip64(extra: &mut Vec<u8>, values: &[u64]) {
    extra.extend_from_slice(&ZIP64_ID.to_le_bytes());
    extra.extend_from_slice(&(8 * values.len() as u16).to_le_bytes());
    for value in values {
        extra.extend_from_slice(&value.to_le_bytes());
    }
}

/// Appends the field that moves the payload from `unaligned_at` to a multiple of `align`; `None` on overflow.
fn pad(extra: &mut Vec<u8>, unaligned_at: u64, align: u16, padding: Padding) -> Option<()> {
    let align = u64::from(align.max(1));
    if unaligned_at.is_multiple_of(align) {
        return Some(());
    }
    let (id, least, fill) = match padding {
        Padding::Alignment => (0xa11e, 6, 0),
        Padding::Torch => (u16::from_le_bytes(*b"FB"), 4, b'Z'),
    };
    // From the smallest field that can be made up to the next multiple; at most `align + 5` bytes, so that the cast
    // below holds only where the field fits at all.
    let field_len = unaligned_at.checked_add(least)?.checked_next_multiple_of(align)? - unaligned_at;
    let payload_len = u16::try_from(field_len - 4).ok()?;
    extra.extend_from_slice(&id.to_le_bytes());
    extra.extend_from_slice(&payload_len.to_le_bytes());
    let filled_to = extra.len() + usize::from(payload_len);
    if padding == Padding::Alignment {
        extra.extend_from_slice(&(align as u16).to_le_bytes());
    }
    extra.resize(filled_to, fill);
    Some(())
}
