//! The files that are converted: made here, from a seed, in a stream.

use crate::peers::Python;
use crate::run::{self, Stop};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use zip::write::{SimpleFileOptions, ZipWriter};

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// 1.5 GB of f32 and bf16 as safetensors.
    Mixed,
    /// 1.5 GB of f32 and f16 as npz, laid out as Python's zipfile does.
    Npz,
    /// 1.5 GB of f32 as safetensors.
    F32,
    /// 1.5 GB of f32 as torch saves a state dict.
    Torch,
    /// 0.5 GB of f32 as torch saves it beside its Adam state, which is twice as much.
    Adam,
    /// One f32 matrix of 4 GB in Fortran order.
    Fortran,
    /// 10 MB of f32 and bf16 as safetensors.
    Small,
    /// A million tensors of one element.
    Million,
    /// One f32 tensor of 4 GiB that is all hole.
    Sparse,
}

/// How large files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// As the table says.
    Real,
    /// Payload of some megabytes, to see that everything runs. Sparse and million stay: they cost little.
    Small,
}

/// A file that is there.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) n_bytes: u64,
    pub(crate) n_payload: u64,
    pub(crate) n_tensors: u64,
}

/// The files that are there.
pub(crate) struct Inputs {
    folder: PathBuf,
    size: Size,
    made: Vec<(Name, Input)>,
}

impl Inputs {
    pub(crate) fn new(folder: PathBuf, size: Size) -> Result<Inputs, Stop> {
        fs::create_dir_all(&folder).map_err(run::at(&folder))?;
        Ok(Inputs { folder, size, made: vec![] })
    }

    /// Makes a file, unless it is there.
    pub(crate) fn make(&mut self, name: Name) -> Result<Input, Stop> {
        if let Some((_, input)) = self.made.iter().find(|(made, _)| *made == name) {
            return Ok(input.clone());
        }
        let path = self.folder.join(match name {
            Name::Npz => "npz.npz".to_owned(),
            Name::Fortran => "fortran.npy".to_owned(),
            Name::Torch | Name::Adam => format!("{name:?}.bin").to_lowercase(),
            _ => format!("{name:?}.safetensors").to_lowercase(),
        });
        let tensors = self.tensors(name);
        let written = match name {
            Name::Torch | Name::Adam => {
                save_with_torch(&path, &tensors, name == Name::Adam)?;
                Ok(())
            }
            Name::Npz => write_npz(&path, &tensors),
            Name::Fortran => write_npy(&path, &tensors),
            Name::Sparse => write_safetensors(&path, &tensors, Payload::Hole),
            _ => write_safetensors(&path, &tensors, Payload::Random),
        };
        written.map_err(run::at(&path))?;
        let input = Input {
            n_bytes: fs::metadata(&path).map_err(run::at(&path))?.len(),
            n_payload: tensors.iter().map(Tensor::n_bytes).sum(),
            n_tensors: tensors.len() as u64,
            path,
        };
        self.made.push((name, input.clone()));
        Ok(input)
    }

    /// Removes every file that is not among these.
    pub(crate) fn keep_only(&mut self, names: impl Iterator<Item = Name>) -> Result<(), Stop> {
        let names: Vec<Name> = names.collect();
        let (kept, gone) =
            std::mem::take(&mut self.made).into_iter().partition(|(name, _)| names.contains(name));
        self.made = kept;
        for (_, input) in gone {
            fs::remove_file(&input.path).map_err(run::at(&input.path))?;
        }
        Ok(())
    }

    fn tensors(&self, name: Name) -> Vec<Tensor> {
        let is_small = self.size == Size::Small;
        match name {
            Name::Mixed => model(if is_small { SMALL } else { LARGE }, Type::F32, Type::Bf16),
            Name::Npz => model(if is_small { SMALL } else { LARGE }, Type::F32, Type::F16),
            Name::Adam => {
                model(if is_small { SMALL } else { Sizes { n_layers: 4, ..LARGE } }, Type::F32, Type::F32)
            }
            Name::F32 | Name::Torch => {
                model(if is_small { SMALL } else { Sizes { n_layers: 13, ..LARGE } }, Type::F32, Type::F32)
            }
            Name::Fortran => {
                let n = if is_small { 1 << 10 } else { 1 << 15 };
                vec![Tensor { name: "transposed".to_owned(), kind: Type::F32, shape: vec![n, n] }]
            }
            Name::Small => model(SMALL, Type::F32, Type::Bf16),
            Name::Million => {
                let one = |idx: u32| Tensor { name: format!("t{idx}"), kind: Type::F32, shape: vec![1] };
                (0..1_000_000).map(one).collect()
            }
            Name::Sparse => {
                vec![Tensor { name: "hole".to_owned(), kind: Type::F32, shape: vec![1 << 20, 1 << 10] }]
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Type {
    F32,
    F16,
    Bf16,
}

struct Tensor {
    name: String,
    kind: Type,
    shape: Vec<u64>,
}

impl Type {
    fn n_bytes(self) -> u64 {
        if matches!(self, Type::F32) { 4 } else { 2 }
    }

    fn in_safetensors(self) -> &'static str {
        match self {
            Type::F32 => "F32",
            Type::F16 => "F16",
            Type::Bf16 => "BF16",
        }
    }

    /// None for a type that numpy has not.
    fn in_numpy(self) -> Option<&'static str> {
        match self {
            Type::F32 => Some("<f4"),
            Type::F16 => Some("<f2"),
            Type::Bf16 => None,
        }
    }
}

impl Tensor {
    fn n_bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.kind.n_bytes()
    }

    /// What `np.save` writes before the payload.
    fn npy_header(&self, is_fortran: bool) -> io::Result<Vec<u8>> {
        let descr = self.kind.in_numpy().ok_or_else(|| io::Error::other("numpy has no such type"))?;
        let order = if is_fortran { "True" } else { "False" };
        let shape = self.shape.iter().fold(String::new(), |mut text, n| {
            let _ = write!(text, "{n}, ");
            text
        });
        // One dimension keeps its comma, as in every Python tuple.
        let shape = if self.shape.len() == 1 { shape.trim_end() } else { shape.trim_end_matches(", ") };
        let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
        let len = (10 + text.len() + 1).next_multiple_of(64) - 10;
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((len as u16).to_le_bytes());
        header.extend(format!("{text:<width$}\n", width = len - 1).into_bytes());
        Ok(header)
    }
}

/// The sizes of a model of the usual kind.
#[derive(Clone, Copy)]
struct Sizes {
    n_layers: u64,
    hidden: u64,
    key: u64,
    inner: u64,
    vocabulary: u64,
}

/// 182 tensors, 1.5 GB when mixed.
const LARGE: Sizes = Sizes { n_layers: 20, hidden: 2048, key: 512, inner: 3072, vocabulary: 8000 };

/// 74 tensors, 10 MB when mixed.
const SMALL: Sizes = Sizes { n_layers: 8, hidden: 256, key: 64, inner: 384, vocabulary: 1000 };

/// A decoder: norms and two projections in one type, the rest in another.
fn model(sizes: Sizes, precise: Type, rest: Type) -> Vec<Tensor> {
    let Sizes { n_layers, hidden, key, inner, vocabulary } = sizes;
    let tensor = |name: String, kind: Type, shape: &[u64]| Tensor { name, kind, shape: shape.to_vec() };
    let mut tensors = vec![tensor("model.embed_tokens.weight".to_owned(), rest, &[vocabulary, hidden])];
    for layer in 0..n_layers {
        let parts: [(&str, Type, &[u64]); 9] = [
            ("input_layernorm", precise, &[hidden]),
            ("self_attn.q_proj", precise, &[hidden, hidden]),
            ("self_attn.k_proj", rest, &[key, hidden]),
            ("self_attn.v_proj", rest, &[key, hidden]),
            ("self_attn.o_proj", precise, &[hidden, hidden]),
            ("post_attention_layernorm", precise, &[hidden]),
            ("mlp.gate_proj", rest, &[inner, hidden]),
            ("mlp.up_proj", rest, &[inner, hidden]),
            ("mlp.down_proj", rest, &[hidden, inner]),
        ];
        for (part, kind, shape) in parts {
            tensors.push(tensor(format!("model.layers.{layer}.{part}.weight"), kind, shape));
        }
    }
    tensors.push(tensor("model.norm.weight".to_owned(), precise, &[hidden]));
    tensors
}

/// What fills a file after its header.
#[derive(PartialEq)]
enum Payload {
    Random,
    Hole,
}

fn write_safetensors(path: &Path, tensors: &[Tensor], payload: Payload) -> io::Result<()> {
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

/// Shapes by name come as JSON; values are torch's own random numbers.
const SAVE: &str = "
import json, sys
import torch
torch.manual_seed(0)
weights = {name: torch.randn(shape) for name, shape in json.loads(sys.argv[2]).items()}
state = weights
if sys.argv[3] == 'adam':
    moments = {idx: {'step': torch.tensor(1.0), 'exp_avg': torch.randn_like(weight), 'exp_avg_sq': torch.rand_like(weight)}
               for idx, weight in enumerate(weights.values())}
    groups = [{'lr': 0.001, 'betas': (0.9, 0.999), 'params': list(moments)}]
    state = {'model': weights, 'optimizer': {'state': moments, 'param_groups': groups}, 'epoch': 1}
torch.save(state, sys.argv[1])
";

fn save_with_torch(path: &Path, tensors: &[Tensor], with_adam: bool) -> Result<(), Stop> {
    let shapes: serde_json::Map<String, serde_json::Value> =
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone().into())).collect();
    let shapes = serde_json::Value::Object(shapes).to_string();
    let kind = if with_adam { "adam" } else { "plain" };
    run::run(Python::prepare()?.text(SAVE).arg(path).arg(shapes).arg(kind))
}

fn write_npy(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for tensor in tensors {
        file.write_all(&tensor.npy_header(true)?)?;
        Random::default().write(&mut file, tensor.n_bytes())?;
    }
    Ok(())
}

fn write_npz(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
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
    use crate::bench::measure::header_bytes;

    #[test]
    fn files_are_what_their_names_say() {
        let folder = std::env::temp_dir().join(format!("xtask-inputs-{}", std::process::id()));
        let mut inputs = Inputs::new(folder.clone(), Size::Small).unwrap();
        for name in [Name::Mixed, Name::Npz, Name::Fortran, Name::Sparse] {
            let input = inputs.make(name).unwrap();
            let header = header_bytes(&input.path).unwrap();
            assert!(header < 1 << 16, "{name:?}: a header of {header}");
            assert!(
                input.n_payload < input.n_bytes && input.n_bytes < input.n_payload + (1 << 16),
                "{name:?}"
            );
            if name != Name::Npz {
                assert_eq!(input.n_bytes, header + input.n_payload, "{name:?}");
            }
        }
        inputs.keep_only(std::iter::once(Name::Npz)).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn sizes_are_as_promised() {
        let bytes = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::n_bytes).sum::<u64>() as f64;
        assert!((1.45e9..1.65e9).contains(&bytes(model(LARGE, Type::F32, Type::Bf16))));
        assert!((1.45e9..1.65e9).contains(&bytes(model(
            Sizes { n_layers: 13, ..LARGE },
            Type::F32,
            Type::F32
        ))));
        assert!((9e6..11e6).contains(&bytes(model(SMALL, Type::F32, Type::Bf16))));
    }

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
