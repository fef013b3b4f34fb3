//! Laying an archive out: headers, positions and holes, no payload.

use super::records::{
    Header, MADE_BY_UNIX, VERSION_ZIP64, check_name, is_wide, put_end, put_zip64, refusal, short,
};
use super::*;
use modelferry_core::error::Result;
use zip::ZIP64_ENTRY_THR;

/// 1980-01-01, with a time of 00:00 the first moment that DOS can name: outputs hold no clock.
const DOS_DATE: u16 = 1 << 5 | 1;
/// Version 2.0, where zip64 is not used (APPNOTE 4.4.3.2).
const VERSION: u16 = 20;
/// A regular file with mode 0644, where an archive "made by" Unix keeps it.
const ATTRIBUTES: u32 = 0o100_644 << 16;
const CRC_IN_LOCAL: u64 = 14;
pub(super) const CRC_IN_CENTRAL: u64 = 16;

/// The extra field that pads a local header so that the payload is aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// 0xA11E: the alignment as a `u16`, then zeros. What the `zip` crate writes.
    #[default]
    Alignment,
    /// `FB`: filled with the letter Z, and there even where it has nothing to fill. What torch writes.
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
        check_name(name)?;
        let too_large = || refusal(name, "the archive is too large");
        let header_at = self.at;
        let flags = if name.is_ascii() { 0 } else { FLAG_UTF8 };
        let version = |is_wide: bool| if is_wide { VERSION_ZIP64 } else { VERSION };

        let mut wide = if is_wide(len) { vec![len, len] } else { vec![] };
        let mut extra = Vec::new();
        put_zip64(&mut extra, &wide);
        extra.extend_from_slice(local_extra);
        let unaligned_at = header_at
            .checked_add(LOCAL_BYTES + name.len() as u64 + extra.len() as u64)
            .ok_or_else(too_large)?;
        pad(&mut extra, unaligned_at, align, padding).ok_or_else(too_large)?;
        let version_local = version(!wide.is_empty());
        let local =
            Header { name, version: version_local, flags, date: DOS_DATE, len: short(len), extra: &extra };
        let header = local.local()?;
        let data_at = header_at.checked_add(header.len() as u64);
        let end = data_at.and_then(|data_at| Some((data_at, data_at.checked_add(len)?)));
        let (data_at, end) = end.ok_or_else(too_large)?;

        if is_wide(header_at) {
            wide.push(header_at);
        }
        extra.clear();
        put_zip64(&mut extra, &wide);
        extra.extend_from_slice(central_extra);
        let version = version(!wide.is_empty());
        let crc_in_directory = self.directory.len() as u64 + CRC_IN_CENTRAL;
        let central = Header { name, version, flags, date: DOS_DATE, len: short(len), extra: &extra };
        central.central(&mut self.directory, MADE_BY_UNIX | version, ATTRIBUTES, header_at)?;

        self.at = end;
        self.n_members += 1;
        Ok(Placed { header, header_at, data_at, crc_at: header_at + CRC_IN_LOCAL, crc_in_directory })
    }

    /// The directory and the end records. Error: an archive of more than 2^64 bytes.
    pub fn finish(self) -> Result<Finished> {
        let Writer { at, n_members, directory: mut bytes } = self;
        let needs_zip64 = n_members >= ZIP64_ENTRY_THR as u64 || is_wide(bytes.len() as u64) || is_wide(at);
        put_end(&mut bytes, at, n_members, needs_zip64.then_some(MADE_BY_UNIX | VERSION_ZIP64))?;
        Ok(Finished { at, bytes })
    }
}

/// Appends the field that moves the payload from `unaligned_at` to a multiple of `align`; `None` on overflow.
pub(super) fn pad(extra: &mut Vec<u8>, unaligned_at: u64, align: u16, padding: Padding) -> Option<()> {
    let align = u64::from(align.max(1));
    if padding == Padding::Alignment && unaligned_at.is_multiple_of(align) {
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
