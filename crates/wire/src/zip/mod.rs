//! Zip archives: [`Directory`] reads one, [`Writer`] lays one out, [`TorchWriter`] in torch's dialect. None inflates,
//! deflates or sums anything.
//!
//! The rules are those of APPNOTE.TXT 6.3.10 (PKWARE), read as strictly as torch, numpy and our own output allow: an
//! archive that two programs could understand differently is refused. The directory is parsed here and not by the
//! `zip` crate, because that one keeps entries in a map by name (duplicates vanish), holds several hundred bytes an
//! entry, does not compare local headers with the directory, and searches for a plausible directory where ours must
//! refuse. Its names of methods and its zip64 thresholds are used, and it judges both directions in
//! the tests.

mod read;
mod records;
mod torch;
mod write;

pub use read::{Directory, Entry};
pub use torch::{TorchPlaced, TorchWriter};
pub use write::{Finished, Member, Padding, Placed, Writer};

use zip::CompressionMethod;

/// First bytes of a local header, and so of every archive that is not empty.
pub const LOCAL_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// First bytes of the end record, and so of an archive without entries.
pub const END_MAGIC: [u8; 4] = *b"PK\x05\x06";

const CENTRAL_MAGIC: [u8; 4] = *b"PK\x01\x02";
const END64_MAGIC: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_MAGIC: [u8; 4] = *b"PK\x06\x07";

/// Bytes of a local header before name and extra field (APPNOTE 4.3.7).
const LOCAL_BYTES: u64 = 30;
/// Bytes of a directory header before name, extra field and comment (4.3.12).
const CENTRAL_BYTES: u64 = 46;
/// Bytes of the end record before its comment (4.3.16).
const END_BYTES: u64 = 22;
/// Bytes of the zip64 end record without extensions (4.3.14).
const END64_BYTES: u64 = 56;
/// Bytes of the zip64 locator (4.3.15).
const LOCATOR_BYTES: u64 = 20;

/// Header id of the extra field that holds 64-bit sizes and offsets (4.5.3).
const ZIP64_ID: u16 = 0x0001;

const FLAG_ENCRYPTED: u16 = 1 << 0;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCH: u16 = 1 << 5;
const FLAG_STRONG: u16 = 1 << 6;
const FLAG_UTF8: u16 = 1 << 11;
const FLAG_MASKED: u16 = 1 << 13;

/// How an entry's bytes are stored. Every other method is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they are.
    Stored,
    /// As a raw deflate stream.
    Deflated,
}

impl Method {
    fn from_u16(method: u16) -> Option<Method> {
        // APPNOTE 4.4.5.
        match method {
            0 => Some(Method::Stored),
            8 => Some(Method::Deflated),
            _ => None,
        }
    }
}

/// The payload of the first field with this header id in an entry's extra bytes (APPNOTE 4.5.1). Stops quietly where
/// the bytes stop making sense: aligners leave up to three stray zeros behind.
pub fn extra_field(extra: &[u8], id: u16) -> Option<&[u8]> {
    extra_fields(extra).find(|field| field.0 == id).map(|field| field.1)
}

/// (header id, payload, the whole field) for each.
fn extra_fields(mut extra: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (header, rest) = extra.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let payload = rest.get(..len)?;
        let whole = &extra[..4 + len];
        extra = &rest[len..];
        Some((u16::from_le_bytes([header[0], header[1]]), payload, whole))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_the_zip_crates() {
        for method in 0..200 {
            if let Some(known) = Method::from_u16(method) {
                assert_eq!(format!("{known:?}"), CompressionMethod::name_from_u16(method));
            }
        }
        assert_eq!((0..200).filter_map(Method::from_u16).count(), 2);
    }

    #[test]
    fn extra_fields_are_found_and_bad_ones_end_the_search() {
        let extra = [1, 0, 2, 0, 9, 9, b'F', b'M', 1, 0, 7, 0, 0];
        assert_eq!(extra_field(&extra, 1), Some(&[9, 9][..]));
        assert_eq!(extra_field(&extra, 0x4d46), Some(&[7][..]));
        assert_eq!(extra_field(&extra, 2), None);
        assert_eq!(extra_field(&[1, 0, 3, 0, 9, 9], 1), None);
    }
}
