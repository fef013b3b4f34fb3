//! Layers collapsed: names that differ only in numbers become one line.

use modelferry_core::DType;
use modelferry_core::model::Tensor;
use std::collections::{BTreeSet, HashMap};

/// Tensors whose names differ only in numeric components, of one type and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// The name, with each number that varies as `{0..31}` or `{0,2,5..7}`.
    pub pattern: String,
    /// Their type.
    pub dtype: DType,
    /// Their shape.
    pub shape: Vec<u64>,
    /// How many.
    pub n_tensors: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// What is known of a fold while it grows.
struct Growing {
    dtype: DType,
    shape: Vec<u64>,
    /// Distinct numbers seen at each numeric component.
    numbers: Vec<BTreeSet<u64>>,
    n_tensors: u64,
    bytes: u64,
}

/// Folds tensors, in the order in which each pattern is first met.
pub fn fold<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Vec<Fold> {
    let mut by_template: HashMap<(String, DType, Vec<u64>), usize> = HashMap::new();
    let mut growing: Vec<(String, Growing)> = vec![];
    for tensor in tensors {
        let (template, numbers) = split_numbers(&tensor.name);
        let key = (template, tensor.dtype, tensor.shape.clone());
        let at = *by_template.entry(key).or_insert_with_key(|(template, dtype, shape)| {
            let numbers = vec![BTreeSet::new(); numbers.len()];
            let fresh = Growing { dtype: *dtype, shape: shape.clone(), numbers, n_tensors: 0, bytes: 0 };
            growing.push((template.clone(), fresh));
            growing.len() - 1
        });
        let fold = &mut growing[at].1;
        for (seen, number) in fold.numbers.iter_mut().zip(numbers) {
            seen.insert(number);
        }
        fold.n_tensors += 1;
        fold.bytes = fold.bytes.saturating_add(tensor.byte_len());
    }
    let finish = |(template, fold): (String, Growing)| Fold {
        pattern: fill(&template, &fold.numbers),
        dtype: fold.dtype,
        shape: fold.shape,
        n_tensors: fold.n_tensors,
        bytes: fold.bytes,
    };
    growing.into_iter().map(finish).collect()
}

/// A name with its numeric components replaced by NUL, and the numbers. Components are divided by `.` or `/`; one
/// with a leading zero is text, so that a name can be told from its pattern.
fn split_numbers(name: &str) -> (String, Vec<u64>) {
    let mut template = String::with_capacity(name.len());
    let mut numbers = vec![];
    for part in name.split_inclusive(['.', '/']) {
        let bare = part.trim_end_matches(['.', '/']);
        let is_plain = bare == "0" || !bare.starts_with('0');
        match bare.parse::<u64>() {
            Ok(number) if is_plain && bare.bytes().all(|b| b.is_ascii_digit()) => {
                numbers.push(number);
                template.push('\0');
                template.push_str(&part[bare.len()..]);
            }
            _ => template.push_str(part),
        }
    }
    (template, numbers)
}

fn fill(template: &str, numbers: &[BTreeSet<u64>]) -> String {
    let mut numbers = numbers.iter();
    let mut pattern = String::with_capacity(template.len());
    for c in template.chars() {
        match (c, if c == '\0' { numbers.next() } else { None }) {
            ('\0', Some(seen)) => pattern.push_str(&set_text(seen)),
            _ => pattern.push(c),
        }
    }
    pattern
}

/// A set of numbers: one as itself, several as ranges in braces, at most four of them.
fn set_text(seen: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = vec![];
    for &number in seen {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    if let [(first, last)] = ranges[..]
        && first == last
    {
        return first.to_string();
    }
    let shown = ranges.iter().take(4).map(|&(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}..{last}"),
    });
    let mut texts: Vec<String> = shown.collect();
    if ranges.len() > 4 {
        let last = ranges.last().map_or(0, |range| range.1);
        texts.push(format!("…{last}"));
    }
    format!("{{{}}}", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::model::Model;

    /// Folds f32 tensors of the given names and lengths, and shows `PATTERN [shape] ×count`.
    fn folded(tensors: &[(String, u64)]) -> Vec<String> {
        let mut model = Model::default();
        for (name, len) in tensors {
            let bytes = model.nodes.inline(vec![0; *len as usize * 4]).unwrap();
            let data = model.nodes.decode(bytes, DType::F32, *len, Default::default()).unwrap();
            model.push(name.as_str(), DType::F32, vec![*len], data).unwrap();
        }
        fold(model.tensors.iter())
            .iter()
            .map(|fold| format!("{} {:?} ×{}", fold.pattern, fold.shape, fold.n_tensors))
            .collect()
    }

    #[test]
    fn layers_collapse() {
        let mut tensors = vec![("embed".to_owned(), 8)];
        for layer in 0..32 {
            tensors.push((format!("layers.{layer}.q.weight"), 4));
            tensors.push((format!("layers.{layer}.mlp.weight"), if layer == 7 { 2 } else { 3 }));
        }
        tensors.push(("norm.0".to_owned(), 1));
        assert_eq!(
            folded(&tensors),
            [
                "embed [8] ×1",
                "layers.{0..31}.q.weight [4] ×32",
                "layers.{0..6,8..31}.mlp.weight [3] ×31",
                "layers.7.mlp.weight [2] ×1",
                "norm.0 [1] ×1"
            ]
        );
    }

    #[test]
    fn experts_and_odd_numbers() {
        let names = ["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1", "c/0", "c/2", "d.01", "d.02", "1e3", "+1"];
        let tensors: Vec<(String, u64)> = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        assert_eq!(
            folded(&tensors),
            [
                "a.{0,1}.b.{0,1} [1] ×4",
                "c/{0,2} [1] ×2",
                "d.01 [1] ×1",
                "d.02 [1] ×1",
                "1e3 [1] ×1",
                "+1 [1] ×1"
            ]
        );
        let sparse: Vec<(String, u64)> = (0..10).map(|at| (format!("x.{}", at * 3), 1)).collect();
        assert_eq!(folded(&sparse), ["x.{0,3,6,9,…27} [1] ×10"]);
    }
}
