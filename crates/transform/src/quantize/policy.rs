//! Which type each tensor of a quantized GGUF gets: the mixtures of llama-quantize (llama.cpp, `src/llama-quant.cpp`,
//! as of October 2026), as a function of names, shapes and a few facts of the model.
//!
//! Names are GGUF's. Nothing is read and nothing is changed here; [`choose`] only says what is to be done.

use super::preset::Preset;
use super::{mixture, names};
use modelferry_core::dtype::{Class, DType};
use modelferry_core::model::Tensor;
use modelferry_core::{Error, Result};

/// What the user asked for.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The mixture.
    pub preset: Preset,
    /// Every tensor gets the preset's own type (`--pure`).
    pub pure: bool,
    /// Whether there is an importance matrix.
    pub has_matrix: bool,
}

/// What the metadata of the GGUF says about the model.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `general.architecture`.
    pub architecture: &'a str,
    /// `ARCH.block_count`.
    pub n_layer: u32,
    /// `ARCH.attention.head_count`, of the first layer.
    pub n_head: u32,
    /// `ARCH.attention.head_count_kv`, of the first layer; the number of heads where it is absent.
    pub n_head_kv: u32,
    /// `ARCH.expert_count`; 0 where it is absent.
    pub n_expert: u32,
}

impl Facts<'_> {
    /// How many heads share a key and a value.
    pub(super) fn gqa(&self) -> u32 {
        self.n_head.checked_div(self.n_head_kv).unwrap_or(0)
    }

    /// Whether llama.cpp takes it for one of the models of 70 billion parameters.
    pub(super) fn is_70b(&self) -> bool {
        match self.architecture {
            "llama" | "llama-embed" => {
                self.n_layer == 80 && self.n_expert != 8 && self.n_head != self.n_head_kv
            }
            "deci" | "olmo" | "qwen2" => self.n_layer == 80,
            "jais2" => self.n_layer == 68,
            _ => false,
        }
    }
}

/// A tensor as it is.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name in GGUF.
    pub name: &'a str,
    /// Its type.
    pub dtype: DType,
    /// Its extents, the length of a row last (GGUF writes them the other way round).
    pub shape: &'a [u64],
    /// The type that the user wants for exactly this tensor (`--tensor-type`), instead of the mixture's; the presets
    /// `f32`, `f16` and `bf16` do not heed it.
    pub wanted: Option<DType>,
}

impl Source<'_> {
    pub(super) fn row(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// As ggml counts: extents of 1 in front do not.
    fn is_matrix(&self) -> bool {
        self.shape.iter().rev().skip(1).any(|extent| *extent > 1)
    }

    pub(super) fn is_stacked(&self) -> bool {
        self.shape.iter().rev().nth(2).is_some_and(|extent| *extent > 1)
    }
}

/// What a tensor becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its type; the one it has if it is left alone.
    pub dtype: DType,
    /// The type it would have if its rows were whole blocks of that.
    pub instead_of: Option<DType>,
    /// Whether it must not be quantized without importance weights.
    pub needs_matrix: bool,
}

/// The type of every tensor, in the order given.
///
/// Tensors that are no matrices, or whose name is not one of a weight to be quantized, stay as they are. One whose
/// type is chosen and that is stored in another block-quantized type is for the caller to refuse.
///
/// Errors: [`Target`](modelferry_core::ErrorKind::Target) for rows that do not fit and a type that has no other to
/// fall back on, and for an expert whose name has no layer;
/// [`Malformed`](modelferry_core::ErrorKind::Malformed) for a layer beyond [`Facts::n_layer`].
///
/// ```
/// use modelferry_core::dtype::DType;
/// use modelferry_transform::quantize::{Facts, Preset, Rules, Source, choose};
/// let facts = Facts { architecture: "llama", n_layer: 2, n_head: 8, n_head_kv: 8, n_expert: 0 };
/// let rules = Rules { preset: Preset::Q4KM, pure: false, has_matrix: false };
/// let tensor = |name, shape| Source { name, dtype: DType::F32, shape, wanted: None };
/// let tensors = [tensor("blk.0.attn_q.weight", &[512, 512]), tensor("blk.0.ffn_up.weight", &[512, 96])];
/// let choices = choose(rules, &facts, &tensors)?;
/// assert_eq!(choices[0].dtype, DType::Q4K);
/// assert_eq!((choices[1].dtype, choices[1].instead_of), (DType::Q5_0, Some(DType::Q4K)));
/// # Ok::<(), modelferry_core::Error>(())
/// ```
pub fn choose(rules: Rules, facts: &Facts<'_>, tensors: &[Source<'_>]) -> Result<Vec<Choice>> {
    // Some rules count tensors, so their order matters: by layer, those of none first, then by name.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|index| (names::layer(tensors[*index].name), tensors[*index].name));
    let mut mixture = mixture::Mixture::new(rules, facts, tensors);
    let left_alone =
        |tensor: &Source<'_>| Choice { dtype: tensor.dtype, instead_of: None, needs_matrix: false };
    let mut choices: Vec<Choice> = tensors.iter().map(left_alone).collect();
    for index in order {
        let tensor = &tensors[index];
        if !tensor.is_matrix() || !names::is_quantized(tensor.name, facts.architecture) {
            continue;
        }
        let usual = rules.preset.dtype();
        let wanted = match tensor.wanted {
            _ if usual.class() != Class::Block => usual,
            Some(wanted) => wanted,
            None if rules.pure => usual,
            None => mixture.next(tensor)?,
        };
        let dtype = fitting(wanted, tensor)?;
        choices[index] = Choice {
            dtype,
            instead_of: (dtype != wanted).then_some(wanted),
            needs_matrix: needs_matrix(dtype, rules.preset, names::role(tensor.name)),
        };
    }
    Ok(choices)
}

/// The type of a tensor that only `--tensor-type` may have chosen one for.
///
/// Errors: as for [`choose`].
pub(super) fn named(tensor: &Tensor, wanted: Option<DType>) -> Result<Choice> {
    let source = Source { name: &tensor.name, dtype: tensor.dtype, shape: &tensor.shape, wanted };
    let dtype = wanted.map_or(Ok(tensor.dtype), |wanted| fitting(wanted, &source))?;
    Ok(Choice { dtype, instead_of: wanted.filter(|wanted| *wanted != dtype), needs_matrix: false })
}

/// How many layers the names of tensors speak of.
pub(super) fn n_layers(tensors: &[Tensor]) -> u32 {
    let layers = tensors.iter().filter_map(|tensor| names::layer(&tensor.name));
    layers.max().map_or(0, |last| last.saturating_add(1))
}

/// `wanted`, or what takes its place where the tensor's rows are not whole blocks of it.
fn fitting(wanted: DType, tensor: &Source<'_>) -> Result<DType> {
    use DType::*;
    let fits = |dtype: DType| tensor.row().is_multiple_of(dtype.item_elements());
    if fits(wanted) {
        return Ok(wanted);
    }
    let smaller = match wanted {
        Iq1S | Iq1M | Iq2Xxs | Iq2Xs | Iq2S | Iq3Xxs | Iq3S | Iq4Xs => Iq4Nl,
        Q2_0 | Q2K | Q3K | Tq1_0 | Tq2_0 => Q4_0,
        Q4K => Q5_0,
        Q5K => Q5_1,
        Q6K => Q8_0,
        _ if wanted.item_elements() <= 32 => wanted,
        _ => {
            let none = format!("rows are not whole blocks of {wanted}, and no other type takes its place");
            return Err(Error::target(none)
                .tensor(tensor.name)
                .expected(format!("a multiple of {}", wanted.item_elements()))
                .found(tensor.row()));
        }
    };
    Ok(if fits(smaller) { smaller } else { F16 })
}

fn needs_matrix(dtype: DType, preset: Preset, role: names::Role) -> bool {
    use DType::*;
    let precious = matches!(role, names::Role::Output | names::Role::TokenEmbedding);
    !precious
        && match dtype {
            Iq1S | Iq1M | Iq2Xxs | Iq2Xs | Iq2S | Iq3Xxs => true,
            Q2K => preset == Preset::Q2KS,
            _ => false,
        }
}
