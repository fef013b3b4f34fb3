//! Where a tensor's data lies in another file.

use super::messages::Entry;
use modelferry_core::{Error, Result};

/// What a location looks like that means an address in the memory of the process that wrote it: onnxruntime's own, and
/// refused by it too in files.
const MEMORY_MARKER: &str = "_ORT_MEM_ADDR_";

/// What `TensorProto.external_data` says. Keys that onnx does not define are ignored, as onnx does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The file, relative to the folder of the model's file.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Length in bytes; where it is not said, as many as the tensor has.
    pub length: Option<u64>,
    /// What is said about the SHA-1 of the file.
    pub checksum: Option<String>,
}

impl External {
    /// Reads the entries.
    ///
    /// Errors: no location, or one that is absolute, leads up, holds a NUL or means memory; a key that stands twice, for
    /// readers differ in which of the two they take; numbers that are none.
    pub fn parse(entries: &[Entry]) -> Result<External> {
        let mut found: [Option<&str>; 4] = [None; 4];
        const KEYS: [&str; 4] = ["location", "offset", "length", "checksum"];
        for entry in entries {
            let Some(idx) = KEYS.iter().position(|key| Some(*key) == entry.key.as_deref()) else { continue };
            if found[idx].replace(entry.value.as_deref().unwrap_or_default()).is_some() {
                let error = Error::malformed("external data says something twice");
                return Err(error.found(format_args!("{:?}", KEYS[idx])));
            }
        }
        let [location, offset, length, checksum] = found;
        let Some(location) = location else {
            return Err(Error::malformed("external data names no file").expected("a location"));
        };
        check_location(location)?;
        let number = |text: Option<&str>, what: &'static str| match text {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(number)),
                _ => Err(Error::malformed(what).expected("a whole number").found(format_args!("{text:?}"))),
            },
        };
        Ok(External {
            location: location.to_owned(),
            offset: number(offset, "external data has an unusable offset")?.unwrap_or(0),
            length: number(length, "external data has an unusable length")?,
            checksum: checksum.map(str::to_owned),
        })
    }

    /// The SHA-1 that is stated, if what is stated is one.
    pub fn sha1(&self) -> Option<[u8; 20]> {
        let text = self.checksum.as_deref()?;
        if text.len() != 40 || !text.is_ascii() {
            return None;
        }
        let mut sha1 = [0; 20];
        for (idx, byte) in sha1.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * idx..2 * idx + 2], 16).ok()?;
        }
        Some(sha1)
    }
}

/// Refuses what can be seen to lead out of the model's folder by the text alone, whatever the system calls absolute: a
/// file is read on other systems than the one that it was made on.
fn check_location(location: &str) -> Result<()> {
    let refused = |what: &'static str| Err(Error::malformed(what).found(format_args!("{location:?}")));
    let drive = location.as_bytes().get(1) == Some(&b':');
    match location {
        "" => refused("external data has an empty location"),
        _ if location.contains('\0') => refused("external data has a location with a NUL"),
        _ if location.contains(MEMORY_MARKER) => {
            refused("external data lies in the memory of another process")
        }
        _ if location.starts_with(['/', '\\']) || drive => refused("external data has an absolute location"),
        _ if location.split(['/', '\\']).any(|part| part == "..") => {
            refused("external data leads out of the model's folder")
        }
        _ => Ok(()),
    }
}
