//! Models that hold one awkward thing each, made in memory: what testdata cannot show for every format.

use crate::naive::pack;
use crate::numbers;
use crate::random::Random;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use modelferry_core::dtype::{Class, DType};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::{BlockFn, Codec, Dim, NodeId, Packing, Part, ReduceFn, volume};
use modelferry_core::inputs::{FileId, MemInputs};
use modelferry_core::model::{List, Model, Value, ValueType};
use modelferry_core::plugin::Shards;
use std::io::Write as _;

/// A model made for one purpose.
pub struct Made {
    /// What is awkward about it.
    pub name: String,
    /// The description.
    pub model: Model,
    /// The file its regions lie in.
    pub inputs: MemInputs,
    /// How it is to be written.
    pub shards: Shards,
}

/// Every made model.
///
/// Errors: none, unless this crate contradicts itself.
pub fn all() -> Result<Vec<Made>> {
    let mut made = vec![];
    for dtype in DType::all() {
        made.push(one(&format!("dtype-{dtype}"), |draft| {
            draft.plain("x", dtype, &[3, 2 * dtype.item_elements()])
        })?);
    }
    for &(name, build) in TABLE {
        made.push(one(name, build)?);
    }
    let mut sharded = one("sharded", |draft| {
        (0..5).try_for_each(|idx| draft.plain(&format!("layers.{idx}.weight"), DType::F32, &[16, 8]))
    })?;
    // Two tensors of 512 bytes fit into one file.
    sharded.shards = Shards::Max(1100);
    made.push(sharded);
    Ok(made)
}

type Build = fn(&mut Draft) -> Result<()>;

const TABLE: &[(&str, Build)] = &[
    ("config-and-files", |draft| {
        draft.plain("x", DType::F32, &[3])?;
        draft.model.config = Some("{ \"model_type\":\"none\", \"nan\": NaN,\n\n\"n\":1.10 }".into());
        let text = draft.model.nodes.inline(b"{}".to_vec())?;
        draft.model.push_asset("tokenizer.json", text)?;
        let nothing = draft.model.nodes.inline(vec![])?;
        draft.model.push_asset("1_Pooling/empty", nothing)?;
        let part = draft.stored("bytes of a file\n".as_bytes())?;
        draft.model.push_asset("größe", part)
    }),
    ("no-tensors", |_| Ok(())),
    ("scalar", |draft| draft.plain("scalar", DType::F32, &[])),
    ("one-element", |draft| draft.plain("one", DType::F16, &[1])),
    ("empty", |draft| {
        draft.plain("none", DType::F32, &[0])?;
        draft.plain("no rows", DType::I64, &[0, 5])?;
        draft.plain("no middle", DType::Bf16, &[2, 0, 3])
    }),
    ("rank-8", |draft| draft.plain("eight", DType::F32, &[2, 1, 3, 1, 2, 2, 1, 2])),
    ("one-dtype-each", |draft| {
        (DType::all().enumerate()).try_for_each(|(idx, dtype)| {
            draft.plain(&format!("{idx}.{dtype}"), dtype, &[dtype.item_elements()])
        })
    }),
    ("mixed", |draft| {
        draft.plain("embed.weight", DType::F32, &[10, 4])?;
        draft.plain("block.0.norm", DType::Bf16, &[7])?;
        draft.plain("block.0.mask", DType::Bool, &[3, 3])?;
        draft.plain("step", DType::I64, &[])?;
        draft.plain("codes", DType::U8, &[5])
    }),
    ("many-tensors", |draft| {
        (0..1000).try_for_each(|idx| draft.plain(&format!("layers.{idx}.bias"), DType::F16, &[idx % 5]))
    }),
    ("names-non-ascii", |draft| {
        draft.plain("größe.重み.вес", DType::F32, &[2])?;
        // The same letter composed and decomposed: two names.
        draft.plain("\u{e9}", DType::F32, &[1])?;
        draft.plain("e\u{301}", DType::F32, &[1])?;
        draft.plain("emoji 🦜", DType::F32, &[1])
    }),
    ("name-500-bytes", |draft| draft.plain(&"n".repeat(500), DType::F32, &[3])),
    ("names-differ-by-case", |draft| {
        draft.plain("Weight", DType::F32, &[1])?;
        draft.plain("weight", DType::F32, &[2])
    }),
    ("names-punctuated", |draft| {
        ["a b", "a\"b", "a\\b", "a/b", "a:b", "'", "[0]", "a,b", "{}", "x.npy", "-"]
            .into_iter()
            .try_for_each(|name| draft.plain(name, DType::U8, &[2]))
    }),
    ("names-with-control-characters", |draft| {
        draft.plain("new\nline", DType::U8, &[1])?;
        draft.plain("tab\t", DType::U8, &[1])?;
        draft.plain("bell\u{7}", DType::U8, &[1])
    }),
    ("ties", |draft| {
        draft.plain("embed.weight", DType::F32, &[6, 4])?;
        draft.plain("other", DType::F32, &[3])?;
        draft.again("lm_head.weight", 0)?;
        draft.again("third", 0)?;
        draft.model.ties.push(vec![0, 2, 3]);
        Ok(())
    }),
    ("transposed", |draft| {
        let of = draft.region(DType::F32, 12, Packing::default())?;
        let node = draft.model.nodes.from_column_major(of, &[3, 4])?;
        draft.tensor("x", DType::F32, &[3, 4], node)
    }),
    ("sliced", |draft| {
        let of = draft.region(DType::Bf16, 40, Packing::default())?;
        let dims = [Dim { count: 3, stride: 8 }, Dim { count: 5, stride: 1 }];
        let node = draft.model.nodes.view(of, 2, &dims)?;
        draft.tensor("x", DType::Bf16, &[3, 5], node)
    }),
    ("expanded", |draft| {
        let of = draft.region(DType::F32, 4, Packing::default())?;
        let node =
            draft.model.nodes.view(of, 0, &[Dim { count: 3, stride: 0 }, Dim { count: 4, stride: 1 }])?;
        draft.tensor("x", DType::F32, &[3, 4], node)
    }),
    ("big-endian", |draft| {
        let packing = Packing::BIG;
        [DType::F16, DType::F32, DType::F64, DType::I16, DType::U32, DType::C64].into_iter().try_for_each(
            |dtype| {
                let node = draft.region(dtype, 6, packing)?;
                draft.tensor(&format!("x.{dtype}"), dtype, &[2, 3], node)
            },
        )
    }),
    ("deflated", |draft| {
        let bytes = draft.values(DType::F32, 600);
        let mut encoder = DeflateEncoder::new(vec![], Compression::new(6));
        let deflated = encoder.write_all(&bytes).and_then(|()| encoder.finish());
        let of = draft.stored(&deflated.map_err(|error| Error::io("deflate", error))?)?;
        let inflated = draft.model.nodes.inflate(of, Codec::Deflate, 2400)?;
        let node = draft.model.nodes.decode(inflated, DType::F32, 600, Packing::default())?;
        draft.tensor("x", DType::F32, &[20, 30], node)
    }),
    ("assembled", |draft| {
        let left = draft.region(DType::F32, 6, Packing::default())?;
        let right = draft.region(DType::F32, 9, Packing::BIG)?;
        let part = |lo: [u64; 2], extent: [u64; 2], node| Part { lo: lo.into(), extent: extent.into(), node };
        let parts = vec![part([0, 0], [3, 2], left), part([0, 2], [3, 3], right)];
        let node = draft.model.nodes.assemble(&[3, 5], parts)?;
        draft.tensor("x", DType::F32, &[3, 5], node)
    }),
    ("scaled-int8", |draft| {
        // A code per element and a scale per row, both tensors of the output: a reduction, a stage and a gather.
        let of = draft.region(DType::Bf16, 32, Packing::default())?;
        let wide = draft.model.nodes.cast(of, DType::F32)?;
        let largest = draft.model.nodes.reduce(ReduceFn::AbsMax, wide, 8)?;
        let scale = draft.model.nodes.stage(largest)?;
        let codes = draft.model.nodes.cast(wide, DType::I8)?;
        let chosen = draft.model.nodes.gather(codes, 8, vec![3, 1, 0, 1])?;
        draft.tensor("codes", DType::I8, &[4, 8], chosen)?;
        draft.tensor("scale", DType::F32, &[4], scale)
    }),
    ("quantized", |draft| {
        let of = draft.region(DType::F32, 128, Packing::default())?;
        let node = draft.model.nodes.block(BlockFn::Quantize, of, DType::Q8_0, 64, None)?;
        draft.tensor("x", DType::Q8_0, &[2, 64], node)
    }),
    ("specials", |draft| {
        [DType::F16, DType::Bf16, DType::F32, DType::F64]
            .into_iter()
            .try_for_each(|dtype| draft.specials(dtype))
    }),
    ("metadata", |draft| {
        let entries =
            [("author", "Ada"), ("empty", ""), ("größe", "重み\n\"quoted\"\\"), ("json", "{\"a\": [1]}")];
        draft
            .model
            .metadata
            .extend(entries.map(|(key, value)| (key.to_owned(), Value::Text(value.to_owned()))));
        draft.plain("x", DType::F32, &[2])
    }),
    ("metadata-typed", |draft| {
        let text = |text: &str| Value::Text(text.to_owned());
        let list = |kind, items: &[Value]| List::of(kind, items).map(Value::List);
        let mut add = |key: &str, value| draft.model.metadata.push((key.to_owned(), value));
        add("text", text("größe"));
        add("bytes", Value::text(vec![b'a', 0xff, 0]));
        add("bool", Value::Bool(true));
        add("u8", Value::U8(255));
        add("i8", Value::I8(-128));
        add("u16", Value::U16(0x1234));
        add("i16", Value::I16(-2));
        add("u32", Value::U32(1 << 31));
        add("i32", Value::I32(i32::MIN));
        add("u64", Value::U64(u64::MAX));
        add("i64", Value::I64(-1));
        add("f32", Value::F32(0.1));
        add("f64", Value::F64(1e300));
        add("nan", Value::F32(f32::NAN));
        let texts = [text("one"), text(""), Value::text(vec![0xc0])];
        let long: Vec<Value> = (0..10_000).map(|idx| text(&format!("token {idx}"))).collect();
        let lists = [
            ("texts", list(ValueType::Text, &texts)),
            ("many texts", list(ValueType::Text, &long)),
            ("no texts", list(ValueType::Text, &[])),
            ("bools", list(ValueType::Bool, &[Value::Bool(false), Value::Bool(true)])),
            ("numbers", list(ValueType::I16, &[Value::I16(1), Value::I16(-2)])),
            ("floats", list(ValueType::F32, &[Value::F32(-0.0), Value::F32(f32::INFINITY)])),
            ("no numbers", list(ValueType::U64, &[])),
        ];
        for (key, list) in lists {
            add(key, list.ok_or_else(|| Error::malformed("a list of several types").found(key))?);
        }
        draft.plain("x", DType::F32, &[2])
    }),
];

/// A model in the making.
struct Draft {
    random: Random,
    model: Model,
    file: Vec<u8>,
}

fn one(name: &str, build: impl FnOnce(&mut Draft) -> Result<()>) -> Result<Made> {
    let mut draft =
        Draft { random: Random::new(name.len() as u64), model: Model::default(), file: vec![0; 3] };
    build(&mut draft)?;
    let inputs = MemInputs::new("file", draft.file);
    Ok(Made { name: name.to_owned(), model: draft.model, inputs, shards: Shards::One })
}

impl Draft {
    /// A tensor whose bytes lie in the file as they are.
    fn plain(&mut self, name: &str, dtype: DType, shape: &[u64]) -> Result<()> {
        let n = volume(shape).and_then(|n| dtype.items(n)).unwrap_or(0);
        let node = self.region(dtype, n, Packing::default())?;
        self.tensor(name, dtype, shape, node)
    }

    /// Another name for tensor `idx`.
    fn again(&mut self, name: &str, idx: usize) -> Result<()> {
        let tensor = self.model.tensors[idx].clone();
        self.tensor(name, tensor.dtype, &tensor.shape, tensor.data)
    }

    fn tensor(&mut self, name: &str, dtype: DType, shape: &[u64], node: NodeId) -> Result<()> {
        self.model.push(name, dtype, shape.to_vec(), node).map(|_| ())
    }

    /// `n` items in the file.
    fn region(&mut self, dtype: DType, n: u64, packing: Packing) -> Result<NodeId> {
        let values = self.values(dtype, n);
        let of = self.stored(&pack(&values, dtype, packing))?;
        self.model.nodes.decode(of, dtype, n, packing)
    }

    fn stored(&mut self, bytes: &[u8]) -> Result<NodeId> {
        let at = self.file.len() as u64;
        self.file.extend_from_slice(bytes);
        // One byte between any two, so that nothing is aligned for long.
        self.file.push(0xee);
        self.model.nodes.region(FileId(0), at, bytes.len() as u64)
    }

    /// Numbers of moderate size where the type has numbers, else any bytes.
    fn values(&mut self, dtype: DType, n: u64) -> Vec<u8> {
        let width = dtype.item_bytes() as usize;
        let moderate =
            |random: &mut Random| numbers::encode(dtype, numbers::from_f64(random.signed_unit() * 3.0));
        match dtype.class() {
            Class::Float => (0..n)
                .flat_map(|_| moderate(&mut self.random).to_le_bytes().into_iter().take(width))
                .collect(),
            Class::Bool => (0..n).map(|_| self.random.below(2) as u8).collect(),
            Class::Signed | Class::Unsigned => {
                let mask = u64::MAX >> (64 - dtype.bits().unwrap_or(64));
                (0..n)
                    .flat_map(|_| (self.random.bits() & mask).to_le_bytes().into_iter().take(width))
                    .collect()
            }
            Class::Complex | Class::Block | Class::Opaque => self.random.bytes(n as usize * width),
        }
    }

    /// Both zeros, both infinities, the ends of the subnormals, and NaNs of every payload bit.
    fn specials(&mut self, dtype: DType) -> Result<()> {
        let n_bits = dtype.bits().unwrap_or(64);
        let infinity = numbers::encode(dtype, numbers::from_f64(f64::INFINITY));
        let n_fraction = infinity.trailing_zeros();
        let mut codes = vec![0, 1, (1 << n_fraction) - 1, 1 << n_fraction, infinity - 1, infinity];
        codes.extend((0..n_fraction).map(|bit| infinity | 1 << bit));
        let signed: Vec<u64> = codes.iter().flat_map(|&code| [code, code | 1 << (n_bits - 1)]).collect();
        let width = dtype.item_bytes() as usize;
        let bytes: Vec<u8> =
            signed.iter().flat_map(|code| code.to_le_bytes().into_iter().take(width)).collect();
        let n = signed.len() as u64;
        let of = self.stored(&bytes)?;
        let node = self.model.nodes.decode(of, dtype, n, Packing::default())?;
        self.tensor(&format!("specials.{dtype}"), dtype, &[n], node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::Naive;
    use modelferry_core::limits::Limits;

    #[test]
    fn made_models_are_whole() {
        let all = all().unwrap();
        assert!(all.len() > 70);
        for made in all {
            made.model.validate(&Limits::default()).unwrap();
            let mut naive = Naive::new(&made.model, &made.inputs);
            for tensor in &made.model.tensors {
                let n_bytes = naive.items(tensor.data).unwrap().bytes().len() as u64;
                assert_eq!(
                    Some(n_bytes),
                    tensor.dtype.items(tensor.n_elements()).map(|n| n * tensor.dtype.item_bytes())
                );
            }
        }
    }
}
