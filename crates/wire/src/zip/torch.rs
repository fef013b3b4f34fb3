//! Archives as torch lays them out.

use super::records::{Header, check_name, is_wide, put_end, put_zip64, refusal, short};
use super::write::{CRC_IN_CENTRAL, Finished, Padding, pad};
use super::*;
use modelferry_core::error::{Error, Result};

const DESCRIPTOR_MAGIC: [u8; 4] = *b"PK\x07\x08";
/// Torch's payloads begin at multiples of this (`.storage_alignment`).
const ALIGN: u16 = 64;
/// What miniz says of itself in the zip64 end record, and nowhere else: Unix, version 3.0.
const MADE_BY: u16 = records::MADE_BY_UNIX | 30;

/// Where a record of torch's lies. All positions count from the start of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorchPlaced {
    /// The local header, directly behind the record before and followed by the payload.
    pub header: Vec<u8>,
    /// Where the payload begins.
    pub data_at: u64,
    /// What directly follows the payload; nothing behind an empty one.
    pub descriptor: Vec<u8>,
    /// Where the four little-endian bytes of the payload's CRC-32 go, first in the descriptor, then in the directory,
    /// counted from the start of [`Finished::bytes`]. Zeros until then; an empty payload's is zero.
    pub crc: Option<(u64, u64)>,
}

/// Lays out an archive byte for byte as torch's writer does (`PyTorchStreamWriter` over miniz, torch 2.15): torch can
/// compute where each record begins without reading the archive, and does so in an archive that says so
/// (`.format_version`).
///
/// Lengths and CRCs follow the payload and stand in the directory, never in the local header. Every payload begins at a
/// multiple of 64. zip64 fields are used where a length or position needs them, in both headers, and the zip64 end
/// record always.
///
/// ```
/// use modelferry_wire::zip::TorchWriter;
///
/// let mut writer = TorchWriter::default();
/// let placed = writer.add("archive/data/0", 5).unwrap();
/// assert_eq!((placed.data_at, placed.header.len()), (64, 64));
/// assert_eq!(placed.descriptor.len(), 16);
/// assert_eq!(placed.crc.unwrap().0, 64 + 5 + 4);
/// assert_eq!(writer.finish().unwrap().at, 64 + 5 + 16);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TorchWriter {
    at: u64,
    n_members: u64,
    directory: Vec<u8>,
}

impl TorchWriter {
    /// Places the next record directly after the one before.
    ///
    /// Errors of kind [`Target`](modelferry_core::error::ErrorKind::Target): a name that zip cannot hold, or an archive
    /// of more than 2^64 bytes.
    pub fn add(&mut self, name: &str, len: u64) -> Result<TorchPlaced> {
        check_name(name)?;
        let too_large = || refusal(name, "the archive is too large");
        let header_at = self.at;
        let flags = FLAG_UTF8 | if len > 0 { FLAG_DESCRIPTOR } else { 0 };
        let wide = |compressed: u64| {
            let mut fields = if is_wide(len) { vec![len, compressed] } else { vec![] };
            fields.extend(is_wide(header_at).then_some(header_at));
            fields
        };
        // miniz does not know yet, when it writes the local header, that it will not compress.
        let mut extra = vec![];
        put_zip64(&mut extra, &wide(0));
        let unaligned_at = header_at
            .checked_add(LOCAL_BYTES + name.len() as u64 + extra.len() as u64)
            .ok_or_else(too_large)?;
        pad(&mut extra, unaligned_at, ALIGN, Padding::Torch).ok_or_else(too_large)?;
        let header = Header { name, version: 0, flags, date: 0, len: 0, extra: &extra }.local()?;
        let data_at = header_at.checked_add(header.len() as u64).ok_or_else(too_large)?;
        let descriptor_at = data_at.checked_add(len).ok_or_else(too_large)?;

        let mut descriptor = vec![];
        if len > 0 {
            descriptor.extend_from_slice(&DESCRIPTOR_MAGIC);
            descriptor.extend_from_slice(&[0; 4]);
            for _ in ["compressed", "uncompressed"] {
                // Wide lengths go with any zip64 field, be it for the position alone.
                let n_bytes = if is_wide(len) || is_wide(header_at) { 8 } else { 4 };
                descriptor.extend_from_slice(&len.to_le_bytes()[..n_bytes]);
            }
        }
        let crc = (len > 0).then_some((descriptor_at + 4, self.directory.len() as u64 + CRC_IN_CENTRAL));
        extra.clear();
        put_zip64(&mut extra, &wide(len));
        let central = Header { name, version: 0, flags, date: 0, len: short(len), extra: &extra };
        central.central(&mut self.directory, 0, 0, header_at)?;
        self.at = descriptor_at.checked_add(descriptor.len() as u64).ok_or_else(too_large)?;
        self.n_members += 1;
        Ok(TorchPlaced { header, data_at, descriptor, crc })
    }

    /// The directory and the end records.
    ///
    /// Errors of kind [`Target`](modelferry_core::error::ErrorKind::Target): an archive of more than 2^64 bytes, or a
    /// directory that torch does not read, of 4 GiB or more.
    pub fn finish(self) -> Result<Finished> {
        let TorchWriter { at, n_members, directory: mut bytes } = self;
        if is_wide(bytes.len() as u64) {
            return Err(Error::target("torch's archives cannot hold so many records").found(n_members));
        }
        put_end(&mut bytes, at, n_members, Some(MADE_BY))?;
        Ok(Finished { at, bytes })
    }
}

#[cfg(test)]
mod tests;
