//! Tensors that are codes: operators compute what they stand for, from scales and zero points.
//!
//! Inputs and attributes are those of onnx's `Operators.md` and onnxruntime's `ContribOperators.md`.

use super::document::Found;
use super::fields::Wire;
use super::file::Field;
use super::nodes::{Scope, Walk};
use super::{attribute, node};
use modelferry_core::Result;
use modelferry_core::dtype::Class;
use std::collections::{HashMap, HashSet};

/// The domain of onnxruntime's own operators.
const MICROSOFT: &str = "com.microsoft";

/// Most operators that only move or choose numbers between codes and the operator that takes them for such.
const MAX_STEPS: usize = 8;

/// A tensor of codes and what belongs to it. Tensors are positions in [`Document::tensors`](super::Document::tensors).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// The codes.
    pub tensor: usize,
    /// The operator that takes them for such.
    pub operator: &'static str,
    /// What codes are multiplied by, where it is a tensor that the operator names.
    pub scale: Option<usize>,
    /// What is taken from codes before.
    pub zero_point: Option<usize>,
    /// Whether the operator names scale and zero point, whether they are tensors of the model or computed.
    pub names: [bool; 2],
    /// Attributes that the node states: `axis` (`quantize_axis`), `block_size`, `bits`, `N`, `K`.
    pub attributes: Attributes,
    /// Whether other operators stand between the codes and this one, and choose or move some of them.
    pub is_moved: bool,
}

/// Whole numbers that a node states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `axis`, or `quantize_axis` where there is one.
    pub axis: Option<i64>,
    /// `block_size`.
    pub block_size: Option<i64>,
    /// `bits`.
    pub bits: Option<i64>,
    /// `N`: rows of the matrix.
    pub n: Option<i64>,
    /// `K`: numbers in a row.
    pub k: Option<i64>,
}

/// An operator that takes codes: in which domain, which inputs are codes, scale and zero point.
struct Row {
    name: &'static str,
    is_contrib: bool,
    inputs: &'static [[Option<usize>; 3]],
}

const fn row(name: &'static str, is_contrib: bool, inputs: &'static [[Option<usize>; 3]]) -> Row {
    Row { name, is_contrib, inputs }
}

#[rustfmt::skip]
const OPERATORS: [Row; 13] = [
    row("DequantizeLinear", false, &[[Some(0), Some(1), Some(2)]]),
    row("QLinearMatMul", false, &[[Some(0), Some(1), Some(2)], [Some(3), Some(4), Some(5)]]),
    row("QLinearConv", false, &[[Some(3), Some(4), Some(5)], [Some(8), None, None]]),
    row("MatMulInteger", false, &[[Some(0), None, Some(2)], [Some(1), None, Some(3)]]),
    row("ConvInteger", false, &[[Some(1), None, Some(3)]]),
    row("DequantizeLinear", true, &[[Some(0), Some(1), Some(2)]]),
    row("QGemm", true, &[[Some(0), Some(1), Some(2)], [Some(3), Some(4), Some(5)], [Some(6), None, None]]),
    row("MatMulIntegerToFloat", true, &[[Some(1), Some(3), Some(5)]]),
    row("DynamicQuantizeMatMul", true, &[[Some(1), Some(2), Some(3)]]),
    row("QAttention", true, &[[Some(1), Some(4), Some(7)]]),
    row("MatMulNBits", true, &[[Some(1), Some(2), Some(3)]]),
    row("MatMulBnb4", true, &[[Some(1), Some(2), None]]),
    row("GatherBlockQuantized", true, &[[Some(0), Some(2), Some(3)]]),
];

/// Operators whose output is their first input's numbers, moved or chosen.
const MOVES: [&str; 8] =
    ["Gather", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Flatten"];

/// A node that takes codes.
struct Use {
    scope: Scope,
    operator: &'static Row,
    inputs: Vec<String>,
    output: String,
    attributes: Attributes,
}

/// What was seen of nodes that take codes, or may stand before one that does.
#[derive(Default)]
pub(super) struct Uses {
    found: Vec<Use>,
    /// Input of nodes that move numbers, by their output.
    moved: HashMap<(usize, String), String>,
    /// Output of casts, by their input.
    cast: HashMap<(usize, String), String>,
    /// Factors of products by their output, and the other factor by each factor.
    factors: HashMap<(usize, String), [String; 2]>,
    products: HashMap<(usize, String), String>,
}

impl Walk<'_> {
    /// Takes note of a node if it takes codes or moves numbers.
    pub(super) fn note_codes(
        &mut self,
        fields: &[Field],
        operator: &str,
        domain: &str,
        scope: Scope,
    ) -> Result<()> {
        let is_contrib = domain == MICROSOFT;
        if !is_contrib && !matches!(domain, "" | "ai.onnx") {
            return Ok(());
        }
        let known = OPERATORS.iter().find(|row| row.name == operator && row.is_contrib == is_contrib);
        let is_between = !is_contrib && (MOVES.contains(&operator) || matches!(operator, "Cast" | "Mul"));
        if known.is_none() && !is_between {
            return Ok(());
        }
        let inputs = self.texts(fields, node::INPUT)?;
        let output = self.texts(fields, node::OUTPUT)?.into_iter().next().unwrap_or_default();
        if let Some(operator) = known {
            let attributes = self.whole_numbers(fields)?;
            self.uses.found.push(Use { scope, operator, inputs, output, attributes });
            return Ok(());
        }
        let scope = scope.position();
        let mut inputs = inputs.into_iter();
        match (operator, inputs.next(), inputs.next()) {
            ("Mul", Some(a), Some(b)) => {
                for (one, other) in [(&a, &b), (&b, &a)] {
                    self.uses.products.insert((scope, one.clone()), other.clone());
                }
                self.uses.factors.insert((scope, output), [a, b]);
            }
            ("Cast", Some(input), _) => drop(self.uses.cast.insert((scope, input), output)),
            (_, Some(input), _) => drop(self.uses.moved.insert((scope, output), input)),
            _ => {}
        }
        Ok(())
    }

    fn texts(&mut self, fields: &[Field], number: u32) -> Result<Vec<String>> {
        let is_it = |field: &&Field| (field.number, field.wire) == (number, Wire::Bytes);
        fields.iter().filter(is_it).map(|field| self.text(field)).collect()
    }

    fn whole_numbers(&mut self, fields: &[Field]) -> Result<Attributes> {
        let mut found = Attributes::default();
        let is_one = |field: &&Field| (field.number, field.wire) == (node::ATTRIBUTE, Wire::Bytes);
        for field in fields.iter().filter(is_one) {
            let inside = self.list(field)?;
            let name = self.text_of(&inside, attribute::NAME)?;
            let is_number = |field: &&Field| (field.number, field.wire) == (attribute::I, Wire::Varint);
            let value = inside.iter().rfind(is_number).map(|field| field.varint as i64);
            match name.as_str() {
                "axis" | "quantize_axis" => found.axis = value,
                "block_size" => found.block_size = value,
                "bits" => found.bits = value,
                "N" => found.n = value,
                "K" => found.k = value,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl Uses {
    /// Whether no node takes codes.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The tensor whose numbers a value holds, perhaps moved or some of them only, and how many operators did that.
    fn origin(
        &self,
        scope: usize,
        name: &str,
        find: &dyn Fn(usize, &str) -> Option<usize>,
    ) -> (Option<usize>, usize) {
        let (mut name, mut n_steps) = (name, 0);
        loop {
            let tensor = find(scope, name);
            match self.moved.get(&(scope, name.to_owned())) {
                Some(before) if tensor.is_none() && n_steps < MAX_STEPS => {
                    (name, n_steps) = (before, n_steps + 1)
                }
                _ => return (tensor, n_steps),
            }
        }
    }

    /// The scale of the first or second factor of an operator that multiplies codes, where one follows that has room
    /// for both: `Mul(Cast(y), Mul(first, second))`, as onnxruntime's quantizer writes it. A single scale may be the
    /// product of two. Where one of both is a tensor, it is that of codes which are one.
    fn later_scale(
        &self,
        use_: &Use,
        side: usize,
        is_alone: bool,
        find: &dyn Fn(usize, &str) -> Option<usize>,
    ) -> Option<usize> {
        let scope = use_.scope.position();
        let cast = self.cast.get(&(scope, use_.output.clone()))?;
        let product = self.products.get(&(scope, cast.clone()))?;
        let [first, second] = self.factors.get(&(scope, product.clone()))?;
        match [find(scope, first), find(scope, second)] {
            both @ [Some(_), Some(_)] => both.get(side).copied().flatten(),
            [Some(one), None] | [None, Some(one)] if is_alone => Some(one),
            _ => None,
        }
    }

    /// The tensors that are codes. `tensors` are those of each scope by their names there, `around` is the scope that
    /// each scope is in.
    pub(super) fn resolve(
        self,
        tensors: &HashMap<(usize, &str), usize>,
        around: &[Option<usize>],
        found: &[Found],
    ) -> Vec<Coded> {
        let mut coded = vec![];
        let mut seen = HashSet::new();
        // A name is looked up in its graph and in those around it.
        let find = |scope: usize, name: &str| {
            let mut scope = Some(scope);
            while let Some(at) = scope {
                if let Some(&tensor) = tensors.get(&(at, name)) {
                    return Some(tensor);
                }
                scope = around.get(at).copied().flatten();
            }
            None
        };
        for use_ in &self.found {
            let scope = use_.scope.position();
            let input = |at: Option<usize>| {
                at.and_then(|at| use_.inputs.get(at)).map(String::as_str).filter(|name| !name.is_empty())
            };
            for [codes, scale, zero_point] in use_.operator.inputs {
                let Some(name) = input(*codes) else { continue };
                let (tensor, n_steps) = self.origin(scope, name, &find);
                let Some(tensor) = tensor else { continue };
                let class = found.get(tensor).map(|found| (found.dtype.class(), found.dtype.bits()));
                let is_codes = match class {
                    Some((Class::Signed | Class::Unsigned, _)) => true,
                    Some((Class::Float, bits)) => bits.is_some_and(|bits| bits <= 8),
                    _ => false,
                };
                if is_codes && seen.insert(tensor) {
                    let [scale, zero_point] = [input(*scale), input(*zero_point)];
                    let later = match use_.operator.name {
                        "MatMulInteger" | "ConvInteger" => {
                            let side = codes.unwrap_or(0);
                            let other = input(Some(1 - side.min(1)));
                            let other = other.and_then(|name| self.origin(scope, name, &find).0);
                            self.later_scale(use_, side, other.is_none(), &find)
                        }
                        _ => None,
                    };
                    coded.push(Coded {
                        tensor,
                        operator: use_.operator.name,
                        scale: scale.and_then(|name| find(scope, name)).or(later),
                        zero_point: zero_point.and_then(|name| find(scope, name)),
                        names: [scale.is_some(), zero_point.is_some()],
                        attributes: use_.attributes,
                        is_moved: n_steps > 0,
                    });
                }
            }
        }
        coded
    }
}
