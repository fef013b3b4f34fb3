//! Files of tensors, written in a stream, or by the program that owns the format.

use super::inputs::Tensor;
use crate::peers::Python;
use crate::run::{self, Stop};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use zip::write::{SimpleFileOptions, ZipWriter};

/// What fills a file after its header.
#[derive(PartialEq)]
pub(super) enum Payload {
    Random,
    Hole,
}

pub(super) fn write_safetensors(path: &Path, tensors: &[Tensor], payload: Payload) -> io::Result<()> {
    let mut header = String::from("{");
    let mut at = 0;
    for (idx, tensor) in tensors.iter().enumerate() {
        let end = at + tensor.n_bytes();
        let comma = if idx == 0 { "" } else { "," };
        // Shapes print as in JSON; names here need no escapes.
        let _ = write!(
            header,
            "{comma}\"{}\":{{\"dtype\":\"{}\",\"shape\":{:?},\"data_offsets\":[{at},{end}]}}",
            tensor.name,
            tensor.kind.in_safetensors(),
            tensor.shape
        );
        at = end;
    }
    header.push('}');
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = File::create_new(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    if payload == Payload::Hole {
        return file.set_len(8 + header.len() as u64 + at);
    }
    let mut random = Random::default();
    random.write(&mut file, at)
}

/// Has the program that owns the format make a file of random weights.
pub(super) fn make_by_owner(path: &Path, tensors: &[Tensor], script: &str, how: &str) -> Result<(), Stop> {
    let shapes: serde_json::Map<String, serde_json::Value> =
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone().into())).collect();
    let shapes = serde_json::Value::Object(shapes).to_string();
    let mut command = Python::prepare()?.command(&format!("xtask/bench/{script}"));
    run::run(command.arg(path).arg(shapes).arg(how))
}

/// One file above what protobuf programs read, payload a hole: onnx itself cannot make it.
pub(super) fn write_onnx(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
    let lengthy = |field: u8, len: u64| [vec![field << 3 | 2], varint(len)].concat();
    let text = |field: u8, text: &str| [lengthy(field, text.len() as u64), text.as_bytes().to_vec()].concat();
    let heads: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| {
            let dims = tensor.shape.iter().flat_map(|n| [vec![1 << 3], varint(*n)].concat());
            // data_type FLOAT, name, raw_data without its bytes.
            let rest = [vec![2 << 3, 1], text(8, &tensor.name), lengthy(9, tensor.n_bytes())].concat();
            let head: Vec<u8> = dims.chain(rest).collect();
            [lengthy(5, head.len() as u64 + tensor.n_bytes()), head].concat()
        })
        .collect();
    let len = |(head, tensor): (&Vec<u8>, &Tensor)| head.len() as u64 + tensor.n_bytes();
    let graph: u64 = heads.iter().zip(tensors).map(len).sum();
    let mut file = File::create_new(path)?;
    // ir_version 8, opset 17 of the default domain.
    file.write_all(&[1 << 3, 8, 8 << 3 | 2, 2, 2 << 3, 17])?;
    let name = text(2, "weights");
    file.write_all(&lengthy(7, graph + name.len() as u64))?;
    file.write_all(&name)?;
    for (head, tensor) in heads.iter().zip(tensors) {
        file.write_all(head)?;
        file.seek_relative(tensor.n_bytes() as i64)?;
    }
    let end = file.stream_position()?;
    file.set_len(end)
}

/// A number as protobuf writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

pub(super) fn write_npy(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for tensor in tensors {
        file.write_all(&tensor.npy_header(true)?)?;
        Random::default().write(&mut file, tensor.n_bytes())?;
    }
    Ok(())
}

pub(super) fn write_npz(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
    let mut archive = ZipWriter::new(BufWriter::with_capacity(1 << 20, File::create_new(path)?));
    let options =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
    let mut random = Random::default();
    for tensor in tensors {
        archive.start_file(format!("{}.npy", tensor.name), options)?;
        archive.write_all(&tensor.npy_header(false)?)?;
        random.write(&mut archive, tensor.n_bytes())?;
    }
    archive.finish()?.flush()
}

/// Random numbers, the same on every machine: xorshift, whose quality is ample for payload and which outruns a disk.
struct Random(u64);

impl Default for Random {
    fn default() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// Small ordinary numbers both as f32 and, in the upper half, as bf16: of either sign, from 2^-7 to 2^-3. So a
    /// cast loses precision and nothing else. As f16 they are numbers too.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 & 0x81ff_ffff_81ff_ffff | 0x3c00_0000_3c00_0000
    }

    fn write(&mut self, out: &mut dyn Write, n_bytes: u64) -> io::Result<()> {
        let mut block = vec![0; 1 << 20];
        let mut left = n_bytes;
        while left > 0 {
            for word in block.chunks_exact_mut(8) {
                word.copy_from_slice(&self.next().to_le_bytes());
            }
            let n = left.min(block.len() as u64);
            out.write_all(&block[..n as usize])?;
            left -= n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_ordinary() {
        let mut random = Random::default();
        for _ in 0..1000 {
            let word = random.next();
            for value in [f32::from_bits(word as u32), f32::from_bits((word >> 32) as u32)] {
                assert!((0.0078..0.126).contains(&value.abs()), "{value}");
            }
        }
    }
}
