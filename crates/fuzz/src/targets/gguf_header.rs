//! A GGUF header behind its magic, in a file that is as long as it says; what was read is written and read again.

use super::Reached;
use crate::check;
use crate::corpus::File;
use crate::inputs::Sparse;
use modelferry_core::inputs::{Inputs, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::Value;
use modelferry_wire::gguf::{Header, MAGIC, NewEntry, parse_header, write_header};

pub(super) fn check(input: &[u8]) -> Result<Reached, String> {
    let bytes = [&MAGIC[..], input].concat();
    let limits = Limits::default();
    let alone = MemInputs::new("made.gguf", &*bytes);
    let header = parse_header(&alone, alone.root(), &limits).ok();
    let end = header.as_ref().map_or(0, Header::padded_end).min(i64::MAX as u64);
    let zeros = end.saturating_sub(bytes.len() as u64);
    let inputs = Sparse::new("made.gguf", bytes, zeros);
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("gguf").map_err(|error| error.to_string())?;
    let (reached, _) = check::reader(reader, &inputs)?;
    header.map_or(Ok(()), |header| written_again(&header, &limits))?;
    Ok(reached)
}

/// What a header says can be written, and says the same then.
fn written_again(header: &Header, limits: &Limits) -> Result<(), String> {
    // A name with a zero in it is one that ggml reads otherwise than we.
    if header.tensors.iter().any(|entry| entry.name.contains('\0')) {
        return Ok(());
    }
    let metadata: Vec<(&str, &Value)> = header.metadata.iter().map(|(key, value)| (&**key, value)).collect();
    let tensors = header.tensors.iter().map(|entry| NewEntry {
        name: &entry.name,
        dtype: entry.dtype,
        shape: &entry.shape,
    });
    let written = write_header(&metadata, tensors, header.alignment).map_err(|error| error.to_string())?;
    let inputs = MemInputs::new("again.gguf", written.parts.concat());
    let again = parse_header(&inputs, inputs.root(), limits).map_err(|error| error.to_string())?;
    let is_same = again.metadata == header.metadata && again.tensors == header.tensors;
    if is_same { Ok(()) } else { Err("what was read is written as another header".to_owned()) }
}

pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    file.bytes.strip_prefix(&MAGIC).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::DType;

    #[test]
    fn headers_get_the_data_they_ask_for() {
        let value = Value::U32(64);
        let entry = NewEntry { name: "w", dtype: DType::F32, shape: &[1 << 20, 1 << 20] };
        let header = write_header(&[("general.alignment", &value)], [entry], 64).unwrap().parts.concat();
        assert_eq!(check(&header[4..]), Ok(Reached::Read));
        assert_eq!(check(&header[4..20]), Ok(Reached::Refused));
    }
}
