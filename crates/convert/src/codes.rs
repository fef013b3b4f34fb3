//! What is said of tensors that are codes.

use modelferry_core::codes::{Codes, Groups};
use modelferry_core::model::{Model, TensorIdx};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// The codes among a model's tensors.
pub fn by_tensor(model: &Model) -> HashMap<TensorIdx, &Codes> {
    model.codes.iter().map(|codes| (codes.tensor, codes)).collect()
}

/// How many there are for each operator, in words; nothing for none.
pub fn summary(model: &Model) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    model.codes.iter().for_each(|codes| *counts.entry(codes.operator).or_default() += 1);
    let counts: Vec<String> = counts.into_iter().map(|(operator, n)| format!("{n} of {operator}")).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

/// What a tensor's codes are, in words.
pub fn text(model: &Model, codes: &Codes) -> String {
    let name = |idx: TensorIdx| &model.tensors[idx].name;
    let scale = codes.scale.map_or(String::new(), |idx| format!(", scale {:?}", name(idx)));
    let zero = codes.zero_point.map_or(String::new(), |idx| format!(", zero point {:?}", name(idx)));
    format!("codes of {}, {}{scale}{zero}", codes.operator, codes.groups.text())
}

/// The same as an object.
pub(crate) fn json(model: &Model, codes: &Codes) -> Value {
    let name = |idx: Option<TensorIdx>| idx.map(|idx| model.tensors[idx].name.as_str());
    let mut value = json!({
        "operator": codes.operator,
        "scale": name(codes.scale),
        "zero_point": name(codes.zero_point),
    });
    match codes.groups {
        Groups::Tensor => value["groups"] = "tensor".into(),
        Groups::Axis(axis) => {
            value["groups"] = "axis".into();
            value["axis"] = axis.into();
        }
        Groups::Blocks { axis, size } => {
            value["groups"] = "blocks".into();
            value["axis"] = axis.into();
            value["block_size"] = size.into();
        }
        Groups::Packed { bits, rows, columns, size } => {
            value["groups"] = "packed".into();
            value["bits"] = bits.into();
            value["rows"] = rows.into();
            value["columns"] = columns.into();
            value["block_size"] = size.into();
        }
        Groups::Unknown => value["groups"] = "unknown".into(),
    }
    value
}
