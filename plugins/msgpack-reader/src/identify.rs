//! Recognition. The format has no magic: any byte begins some value. What flax saves is a dictionary whose first key is
//! text, or one array; both are looked for as far as they cannot be anything else.

use modelferry_core::inputs::Inputs;
use modelferry_core::plugin::{Magic, Verdict};
use modelferry_wire::msgpack::ARRAY;

/// How the files are called.
pub(crate) const EXTENSION: &str = ".msgpack";

/// First bytes of dictionaries, and of extensions, which arrays are.
pub(crate) const MAGIC: [Magic; 22] = {
    const BYTES: [u8; 22] =
        *b"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\xde\xdf\xc7\xc8\xc9\xd8";
    let mut magic = [Magic { at: 0, bytes: &[] }; 22];
    let mut idx = 0;
    while idx < BYTES.len() {
        magic[idx] = Magic { at: 0, bytes: BYTES.split_at(idx).1.split_at(1).0 };
        idx += 1;
    }
    magic
};

/// Bytes that are looked at.
const START: u64 = 4096;

/// Whether the root file is one of flax's.
pub(crate) fn identify(inputs: &dyn Inputs) -> Verdict {
    let root = inputs.root();
    let mut start = vec![0; inputs.len(root).min(START) as usize];
    let is_read = inputs.read_at(root, 0, &mut start).is_ok();
    let is_named = inputs.name(root).ends_with(EXTENSION);
    // An empty dictionary is a byte that other files begin with too, and may have been cut to.
    let is_own = is_dictionary(&start, inputs.len(root)).unwrap_or(false)
        || is_array(&start)
        || is_named && start == [0x80];
    if is_read && is_own {
        Verdict::Content
    } else if is_named {
        Verdict::Name
    } else {
        Verdict::No
    }
}

/// `None` where the file ends before that can be said.
fn is_dictionary(start: &[u8], file_len: u64) -> Option<bool> {
    let (n, rest) = match start.split_first()? {
        (&first @ 0x81..=0x8f, rest) => (u64::from(first & 0x0f), rest),
        (&0xde, rest) => number::<2>(rest)?,
        (&0xdf, rest) => number::<4>(rest)?,
        _ => return Some(false),
    };
    let (len, rest) = match rest.split_first()? {
        (&first @ 0xa0..=0xbf, rest) => (u64::from(first & 0x1f), rest),
        (&0xd9, rest) => number::<1>(rest)?,
        (&0xda, rest) => number::<2>(rest)?,
        (&0xdb, rest) => number::<4>(rest)?,
        _ => return Some(false),
    };
    let (key, value) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let Ok(key) = std::str::from_utf8(key) else { return Some(false) };
    if n == 0 || n > file_len {
        return Some(false);
    }
    // The length field of a safetensors file looks like a key of zeros.
    let is_plain = !key.is_empty() && !key.contains(char::is_control);
    Some(is_array(value) || is_plain && value.first().is_some_and(|&byte| byte != 0xc1))
}

/// Whether an extension begins here that is an array: a list of three, the first of which is a list.
fn is_array(start: &[u8]) -> bool {
    let after = match start.first() {
        Some(0xc7) => 2,
        Some(0xc8) => 3,
        Some(0xc9) => 5,
        Some(0xd8) => 1,
        _ => return false,
    };
    let is_list = |byte: &u8| matches!(byte, 0x90..=0x9f | 0xdc | 0xdd);
    let code = start.get(after).map(|&byte| i8::from_be_bytes([byte]));
    code == Some(ARRAY) && start.get(after + 1) == Some(&0x93) && start.get(after + 2).is_some_and(is_list)
}

/// A number of `N` bytes, most significant first, and what is behind it.
fn number<const N: usize>(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(N)?;
    Some((number.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)), rest))
}
