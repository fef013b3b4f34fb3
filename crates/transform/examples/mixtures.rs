//! Prints the type that each mixture gives each tensor of a model, to be compared with llama-quantize's.
//!
//! `cargo run -p modelferry-transform --example mixtures < DESCRIPTION`
//!
//! The description is a line `ARCHITECTURE LAYERS HEADS KV_HEADS EXPERTS` and a line `NAME[=TYPE] EXTENT…` for every
//! tensor, the row length last and TYPE what the user wants for it. A line of output is `PRESET plain|pure|matrix NAME TYPE`, or an error in place of the last two.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]

use modelferry_core::dtype::DType;
use modelferry_transform::quantize::{Facts, Preset, Rules, Source, choose};

fn main() {
    let text = std::io::read_to_string(std::io::stdin()).unwrap();
    let mut lines = text.lines();
    let [architecture, numbers @ ..] = &lines.next().unwrap().split(' ').collect::<Vec<_>>()[..] else {
        return;
    };
    let [n_layer, n_head, n_head_kv, n_expert] = [0, 1, 2, 3].map(|at| numbers[at].parse().unwrap());
    let facts = Facts { architecture, n_layer, n_head, n_head_kv, n_expert };
    let shapes: Vec<(&str, Vec<u64>)> = lines
        .map(|line| {
            let mut words = line.split(' ');
            (words.next().unwrap(), words.map(|extent| extent.parse().unwrap()).collect())
        })
        .collect();
    let tensors: Vec<Source<'_>> = shapes
        .iter()
        .map(|(name, shape)| {
            let (name, wanted) = name.split_once('=').unwrap_or((name, ""));
            Source { name, dtype: DType::F32, shape, wanted: DType::from_name(wanted) }
        })
        .collect();
    for preset in Preset::all() {
        for (case, pure, has_matrix) in
            [("plain", false, false), ("pure", true, false), ("matrix", false, true)]
        {
            match choose(Rules { preset, pure, has_matrix }, &facts, &tensors) {
                Ok(choices) => {
                    for (tensor, choice) in tensors.iter().zip(choices) {
                        let needs = if choice.needs_matrix { " needs-matrix" } else { "" };
                        println!("{} {case} {} {}{needs}", preset.name(), tensor.name, choice.dtype);
                    }
                }
                Err(error) => println!("{} {case} error: {error}", preset.name()),
            }
        }
    }
}
