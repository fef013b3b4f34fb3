//! An array's header behind its magic.

use super::Reached;
use crate::check;
use crate::corpus::File;
use crate::inputs::Sparse;
use modelferry_core::limits::Limits;
use modelferry_wire::npy::{MAGIC, Parsed, parse};

/// The first byte of the input is the version, the rest is the text.
pub(super) fn check(input: &[u8]) -> Result<Reached, String> {
    let (version, text) = input.split_first().map_or((1, input), |(version, text)| (*version, text));
    let width = if version == 1 { 2 } else { 4 };
    let text = &text[..text.len().min(if version == 1 { 0xffff } else { usize::MAX })];
    let len = (text.len() as u32).to_le_bytes();
    let bytes = [&MAGIC[..], &[version, 0], &len[..width], text].concat();
    let zeros = match parse(&bytes, &Limits::default()) {
        Ok(Parsed::Header(header)) => header.data_len.min(i64::MAX as u64),
        _ => 0,
    };
    let inputs = Sparse::new("made.npy", bytes, zeros);
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("npy").map_err(|error| error.to_string())?;
    Ok(check::reader(reader, &inputs)?.0)
}

pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    let rest = file.bytes.strip_prefix(&MAGIC)?;
    let version = *rest.first()?;
    let width = if version == 1 { 2 } else { 4 };
    let len = rest.get(2..2 + width)?.iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte));
    let text = rest.get(2 + width..)?;
    Some([&[version], &text[..len.min(text.len())]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gets_the_data_it_asks_for() {
        let text = b"\x01{'descr': '<f4', 'fortran_order': True, 'shape': (1000000, 1000000), }\n";
        assert_eq!(check(text), Ok(Reached::Read));
        assert_eq!(check(b"\x01{}"), Ok(Reached::Refused));
        assert_eq!(check(b"\x09{}"), Ok(Reached::Refused));
    }
}
