//! The files that are converted: made here, from a seed, in a stream.

use super::files::{Payload, make_by_owner, write_npy, write_npz, write_onnx, write_safetensors};
use crate::run::{self, Stop};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{fs, io};

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
    /// 1.5 GB of f32 as gguf writes a llama.
    Gguf,
    /// 1.5 GB of f32 as onnx saves them in one file.
    Onnx,
    /// 0.4 GB of f32 as safetensors.
    Floats,
    /// 0.4 GB of f32 as gguf writes a llama.
    Llama,
    /// One f32 matrix of 4 GB in Fortran order.
    Fortran,
    /// 10 MB of f32 and bf16 as safetensors.
    Small,
    /// A million tensors of one element.
    Million,
    /// A 3 GB ONNX file whose tensors are all hole.
    Large,
    /// One f32 tensor of 4 GiB, as experts are stacked, that is all hole.
    Sparse,
}

impl Name {
    /// The script of `xtask/bench` that makes it with the program that owns its format, and what it is told.
    pub(crate) fn maker(self) -> Option<(&'static str, &'static str)> {
        match self {
            Name::Torch => Some(("make_torch.py", "plain")),
            Name::Adam => Some(("make_torch.py", "adam")),
            Name::Gguf | Name::Llama => Some(("make_gguf.py", "")),
            Name::Onnx => Some(("make_onnx.py", "")),
            _ => None,
        }
    }

    fn file_name(self) -> String {
        let extension = match self {
            Name::Npz => "npz",
            Name::Fortran => "npy",
            Name::Torch | Name::Adam => "bin",
            Name::Gguf | Name::Llama => "gguf",
            Name::Onnx | Name::Large => "onnx",
            Name::Mixed | Name::F32 | Name::Floats | Name::Small | Name::Million | Name::Sparse => {
                "safetensors"
            }
        };
        format!("{self:?}.{extension}").to_lowercase()
    }
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
        let path = self.folder.join(name.file_name());
        let tensors = self.tensors(name);
        let written = match (name.maker(), name) {
            (Some((script, how)), _) => {
                make_by_owner(&path, &tensors, script, how)?;
                Ok(())
            }
            (None, Name::Npz) => write_npz(&path, &tensors),
            (None, Name::Fortran) => write_npy(&path, &tensors),
            (None, Name::Large) => write_onnx(&path, &tensors),
            (None, Name::Sparse) => write_safetensors(&path, &tensors, Payload::Hole),
            (None, _) => write_safetensors(&path, &tensors, Payload::Random),
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
            Name::Adam | Name::Floats | Name::Llama => {
                model(if is_small { SMALL } else { Sizes { n_layers: 4, ..LARGE } }, Type::F32, Type::F32)
            }
            Name::F32 | Name::Torch | Name::Gguf | Name::Onnx => {
                model(if is_small { SMALL } else { Sizes { n_layers: 13, ..LARGE } }, Type::F32, Type::F32)
            }
            Name::Large => model(Sizes { n_layers: 28, ..LARGE }, Type::F32, Type::F32),
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
                vec![Tensor {
                    name: "hole".to_owned(),
                    kind: Type::F32,
                    shape: vec![1 << 4, 1 << 16, 1 << 10],
                }]
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    F32,
    F16,
    Bf16,
}

pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) shape: Vec<u64>,
}

impl Type {
    fn n_bytes(self) -> u64 {
        if matches!(self, Type::F32) { 4 } else { 2 }
    }

    pub(super) fn in_safetensors(self) -> &'static str {
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
    pub(super) fn n_bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.kind.n_bytes()
    }

    /// What `np.save` writes before the payload.
    pub(super) fn npy_header(&self, is_fortran: bool) -> io::Result<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::header_bytes;

    #[test]
    fn files_are_what_their_names_say() {
        let folder = std::env::temp_dir().join(format!("xtask-inputs-{}", std::process::id()));
        let mut inputs = Inputs::new(folder.clone(), Size::Small).unwrap();
        for name in [Name::Mixed, Name::Npz, Name::Fortran, Name::Large, Name::Sparse] {
            let input = inputs.make(name).unwrap();
            let header = header_bytes(&input.path, input.n_payload).unwrap();
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
}
