//! What is measured, against what, and how good is good enough (DESIGN section 7).

use super::inputs::Name;

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
}

/// How a row is measured.
pub(crate) enum Kind {
    /// Our seconds by theirs.
    Ratio { work: Work, reference: Reference, bar: Bar },
    /// What a run takes more, from start to exit, with a folder of so many plugins in the path.
    Plugins { work: Work, n: usize, bar: f64 },
    /// From start to exit.
    Seconds { work: Work, bar: f64 },
    /// The largest resident size, against the formula.
    Memory { work: Work },
}

/// What we do.
pub(crate) struct Work {
    pub(crate) input: Name,
    /// Extension of the output.
    pub(crate) to: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) writes: Writes,
}

/// How much an output holds, to see that it is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Writes {
    /// Nothing: a plan alone.
    Nothing,
    /// The payload of the input.
    All,
    /// Half of it.
    Half,
    /// Blocks, each preset's own share of it.
    Blocks,
}

/// Whom we are measured against.
pub(crate) enum Reference {
    /// `cp` of the input.
    Cp,
    /// A copy of as many bytes of the input as there are of weights in it.
    CpOfWeights,
    /// The same conversion by the same plugins linked in; ours is then by libraries.
    Linked,
    /// A script of `xtask/bench` that gets input, output and arguments, and prints the seconds of its work.
    Python {
        name: &'static str,
        script: &'static str,
        arguments: &'static [&'static str],
        to: &'static str,
        clock: Clock,
    },
}

/// Which seconds of a script count. Ours always count from start to exit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Clock {
    /// Those of its work: neither the interpreter's start nor imports.
    Work,
    /// From start to exit, as whoever runs it waits.
    Process,
}

/// How good is good enough.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// Our time, in their times.
    AtMost(f64),
    /// Their time, in our times.
    Faster(f64),
    /// For information.
    None,
}

const BF16: &[&str] = &["--dtype", "bf16"];
const DRY: &[&str] = &["--dry-run"];

const fn plain(input: Name, to: &'static str) -> Work {
    Work { input, to, options: &[], writes: Writes::All }
}

const fn to_bf16(input: Name) -> Work {
    Work { input, to: "safetensors", options: BF16, writes: Writes::Half }
}

const fn dry(input: Name, to: &'static str) -> Work {
    Work { input, to, options: DRY, writes: Writes::Nothing }
}

/// `options` choose blocks.
const fn quantized(input: Name, options: &'static [&'static str]) -> Work {
    Work { input, to: "gguf", options, writes: Writes::Blocks }
}

const fn beside_cp(name: &'static str, what: &'static str, work: Work, bar: f64) -> Row {
    Row { name, what, kind: Kind::Ratio { work, reference: Reference::Cp, bar: Bar::AtMost(bar) } }
}

const fn beside(name: &'static str, what: &'static str, work: Work, reference: Reference, bar: Bar) -> Row {
    Row { name, what, kind: Kind::Ratio { work, reference, bar } }
}

const fn seconds(name: &'static str, what: &'static str, work: Work, bar: f64) -> Row {
    Row { name, what, kind: Kind::Seconds { work, bar } }
}

const fn memory(name: &'static str, what: &'static str, work: Work) -> Row {
    Row { name, what, kind: Kind::Memory { work } }
}

const NUMPY_TO_SAFETENSORS: Reference =
    python("np.load + save_file", "by_numpy_to_safetensors.py", "safetensors", Clock::Work);

const SAFETENSORS_TO_NUMPY: Reference =
    python("load_file + np.savez", "by_numpy_from_safetensors.py", "npz", Clock::Work);

const TORCH_TO_SAFETENSORS: Reference =
    python("torch.load(mmap=True) + save_file", "by_torch_to_safetensors.py", "safetensors", Clock::Work);

/// With both mapped, torch's work is one copy, of which no program can be a sixth; a user waits for its start too.
const TORCH_PROCESS_TO_SAFETENSORS: Reference = python(
    "python: torch.load(mmap=True) + save_file, start to exit",
    "by_torch_to_safetensors.py",
    "safetensors",
    Clock::Process,
);

const SAFETENSORS_TO_TORCH: Reference =
    python("load_file + torch.save", "by_torch_from_safetensors.py", "bin", Clock::Work);

const TORCH_TO_BF16: Reference =
    python("torch: load_file, to, save_file", "by_torch_to_bf16.py", "safetensors", Clock::Work);

const fn python(name: &'static str, script: &'static str, to: &'static str, clock: Clock) -> Reference {
    Reference::Python { name, script, arguments: &[], to, clock }
}

/// gguf-py to blocks of one type.
const fn by_gguf(arguments: &'static [&'static str]) -> Reference {
    let (name, script) = ("load_file + gguf-py's quantize", "by_gguf_quantize.py");
    Reference::Python { name, script, arguments, to: "gguf", clock: Clock::Work }
}

/// llama-quantize to a preset, its libraries already loaded.
const fn by_llama(arguments: &'static [&'static str]) -> Reference {
    let (name, script) = ("llama-quantize on the same cores", "by_llama_quantize.py");
    Reference::Python { name, script, arguments, to: "gguf", clock: Clock::Work }
}

/// One preset beside llama-quantize.
const fn beside_llama(
    name: &'static str,
    what: &'static str,
    options: &'static [&'static str],
    preset: &'static [&'static str],
    bar: f64,
) -> Row {
    beside(name, what, quantized(Name::Llama, options), by_llama(preset), Bar::Faster(bar))
}

/// Every row. Those that share an input stand together, so that it is made once and removed soon.
pub(crate) const ROWS: &[Row] = &[
    beside_cp(
        "st-st",
        "mixed f32 and bf16, safetensors to safetensors",
        plain(Name::Mixed, "safetensors"),
        1.15,
    ),
    beside_cp("st-npz", "mixed f32 and bf16, safetensors to npz with CRC", plain(Name::Mixed, "npz"), 1.15),
    memory(
        "memory-st-st",
        "mixed f32 and bf16, safetensors to safetensors",
        plain(Name::Mixed, "safetensors"),
    ),
    memory("memory-st-npz", "mixed f32 and bf16, safetensors to npz", plain(Name::Mixed, "npz")),
    beside_cp("npz-st", "mixed f32 and f16, npz to safetensors", plain(Name::Npz, "safetensors"), 1.15),
    beside(
        "npz-st-numpy",
        "mixed f32 and f16, npz to safetensors",
        plain(Name::Npz, "safetensors"),
        NUMPY_TO_SAFETENSORS,
        Bar::Faster(6.0),
    ),
    memory("memory-npz-st", "mixed f32 and f16, npz to safetensors", plain(Name::Npz, "safetensors")),
    beside_cp("f32-bf16", "f32 to bf16, safetensors", to_bf16(Name::F32), 1.0),
    beside("f32-bf16-torch", "f32 to bf16, safetensors", to_bf16(Name::F32), TORCH_TO_BF16, Bar::None),
    beside(
        "st-npz-numpy",
        "f32, safetensors to npz",
        plain(Name::F32, "npz"),
        SAFETENSORS_TO_NUMPY,
        Bar::Faster(6.0),
    ),
    beside(
        "libraries-st-npz",
        "f32, safetensors to npz, by plugins that are libraries",
        plain(Name::F32, "npz"),
        Reference::Linked,
        Bar::AtMost(1.05),
    ),
    beside_cp("st-bin", "f32, safetensors to .bin with CRC", plain(Name::F32, "bin"), 1.15),
    beside(
        "st-bin-torch",
        "f32, safetensors to .bin",
        plain(Name::F32, "bin"),
        SAFETENSORS_TO_TORCH,
        Bar::Faster(5.0),
    ),
    memory("memory-st-bin", "f32, safetensors to .bin", plain(Name::F32, "bin")),
    beside_cp("st-gguf", "f32, safetensors to GGUF", plain(Name::F32, "gguf"), 1.15),
    memory("memory-st-gguf", "f32, safetensors to GGUF", plain(Name::F32, "gguf")),
    beside_cp("st-onnx", "f32, safetensors to ONNX", plain(Name::F32, "onnx"), 1.15),
    memory("memory-st-onnx", "f32, safetensors to ONNX", plain(Name::F32, "onnx")),
    memory("memory-f32-bf16", "f32 to bf16, safetensors", to_bf16(Name::F32)),
    beside_cp("bin-st", "f32, .bin to safetensors", plain(Name::Torch, "safetensors"), 1.15),
    beside(
        "bin-st-torch",
        "f32, .bin to safetensors",
        plain(Name::Torch, "safetensors"),
        TORCH_PROCESS_TO_SAFETENSORS,
        Bar::Faster(6.0),
    ),
    beside(
        "bin-st-torch-work",
        "f32, .bin to safetensors, torch already imported",
        plain(Name::Torch, "safetensors"),
        TORCH_TO_SAFETENSORS,
        Bar::None,
    ),
    memory("memory-bin-st", "f32, .bin to safetensors", plain(Name::Torch, "safetensors")),
    beside(
        "adam-st",
        "a checkpoint with Adam state, its weights to safetensors",
        plain(Name::Adam, "safetensors"),
        Reference::CpOfWeights,
        Bar::AtMost(1.15),
    ),
    memory(
        "memory-adam-st",
        "a checkpoint with Adam state, its weights to safetensors",
        plain(Name::Adam, "safetensors"),
    ),
    beside_cp("gguf-st", "f32, GGUF to safetensors", plain(Name::Gguf, "safetensors"), 1.15),
    memory("memory-gguf-st", "f32, GGUF to safetensors", plain(Name::Gguf, "safetensors")),
    beside_cp("gguf-gguf", "f32, GGUF to GGUF", plain(Name::Gguf, "gguf"), 1.15),
    beside_cp("onnx-st", "f32, ONNX to safetensors", plain(Name::Onnx, "safetensors"), 1.15),
    memory("memory-onnx-st", "f32, ONNX to safetensors", plain(Name::Onnx, "safetensors")),
    beside_cp("onnx-onnx", "f32, ONNX with its graph to ONNX", plain(Name::Onnx, "onnx"), 1.15),
    beside(
        "st-q8_0-gguf",
        "f32, safetensors to GGUF in q8_0",
        quantized(Name::Floats, &["--quantize", "q8_0"]),
        by_gguf(&["q8_0"]),
        Bar::Faster(10.0),
    ),
    beside(
        "st-q4_0-gguf",
        "f32, safetensors to GGUF in q4_0",
        quantized(Name::Floats, &["--quantize", "q4_0"]),
        by_gguf(&["q4_0"]),
        Bar::Faster(10.0),
    ),
    beside_llama("q8_0-llama", "f32, GGUF to q8_0", &["--quantize", "q8_0"], &["q8_0"], 1.0),
    beside_llama("q4_0-llama", "f32, GGUF to q4_0", &["--quantize", "q4_0"], &["q4_0"], 1.0),
    beside_llama("q4_k_m-llama", "f32, GGUF to q4_k_m", &["--quantize", "q4_k_m"], &["q4_k_m"], 3.0),
    beside_llama("q5_k_m-llama", "f32, GGUF to q5_k_m", &["--quantize", "q5_k_m"], &["q5_k_m"], 3.0),
    beside_llama("q6_k-llama", "f32, GGUF to q6_k", &["--quantize", "q6_k"], &["q6_k"], 3.0),
    memory("memory-q4_k_m", "f32, GGUF to q4_k_m", quantized(Name::Llama, &["--quantize", "q4_k_m"])),
    beside_cp(
        "transpose",
        "one Fortran-order f32 npy to safetensors",
        plain(Name::Fortran, "safetensors"),
        4.0,
    ),
    memory(
        "memory-transpose",
        "one Fortran-order f32 npy to safetensors",
        plain(Name::Fortran, "safetensors"),
    ),
    seconds("small", "10 MB, safetensors to npz, start to exit", plain(Name::Small, "npz"), 0.030),
    Row {
        name: "50-plugins",
        what: "10 MB of safetensors identified and laid out as npz, with 50 plugins in the path",
        kind: Kind::Plugins { work: dry(Name::Small, "npz"), n: 50, bar: 0.005 },
    },
    seconds(
        "million-st",
        "a million tensors laid out as safetensors",
        dry(Name::Million, "safetensors"),
        5.0,
    ),
    seconds("million-npz", "a million tensors laid out as npz", dry(Name::Million, "npz"), 5.0),
    beside(
        "libraries-million",
        "a million tensors laid out as npz, by plugins that are libraries",
        dry(Name::Million, "npz"),
        Reference::Linked,
        Bar::None,
    ),
    memory("memory-million", "a million tensors laid out as safetensors", dry(Name::Million, "safetensors")),
    memory("memory-million-npz", "a million tensors laid out as npz", dry(Name::Million, "npz")),
    seconds("onnx-open", "a 3 GB ONNX file opened and laid out", dry(Name::Large, "safetensors"), 0.030),
    memory("memory-onnx-open", "a 3 GB ONNX file opened and laid out", dry(Name::Large, "safetensors")),
    memory("memory-sparse", "one f32 tensor of 4 GiB, sparse, copied", plain(Name::Sparse, "safetensors")),
    memory("memory-sparse-bf16", "one f32 tensor of 4 GiB, sparse, to bf16", to_bf16(Name::Sparse)),
    memory(
        "memory-sparse-q4_k",
        "one stacked f32 tensor of 4 GiB, sparse, to q4_k",
        quantized(Name::Sparse, &["--tensor-type", "*=q4_k"]),
    ),
];

impl Row {
    fn work(&self) -> &Work {
        match &self.kind {
            Kind::Ratio { work, .. }
            | Kind::Seconds { work, .. }
            | Kind::Plugins { work, .. }
            | Kind::Memory { work } => work,
        }
    }

    pub(crate) fn input(&self) -> Name {
        self.work().input
    }

    pub(crate) fn needs_twins(&self) -> bool {
        matches!(self.kind, Kind::Ratio { reference: Reference::Linked, .. })
    }

    pub(crate) fn needs_python(&self) -> bool {
        self.input().maker().is_some()
            || matches!(self.kind, Kind::Ratio { reference: Reference::Python { .. }, .. })
    }
}

impl Work {
    /// Bytes of payload, at least and at most, that an output holds.
    pub(crate) fn payload(&self, of_input: u64) -> (u64, u64) {
        match self.writes {
            Writes::Nothing => (0, 0),
            Writes::All => (of_input, of_input),
            Writes::Half => (of_input / 2, of_input / 2),
            // Two to nine bits a value instead of 32.
            Writes::Blocks => (of_input / 16, of_input / 3),
        }
    }
}

impl Reference {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Reference::Cp => "cp",
            Reference::CpOfWeights => "cp of the weights' bytes",
            Reference::Linked => "the same plugins linked in",
            Reference::Python { name, .. } => name,
        }
    }

    /// Extension of its output.
    pub(crate) fn extension(&self) -> &'static str {
        match self {
            Reference::Cp | Reference::CpOfWeights | Reference::Linked => "copy",
            Reference::Python { to, .. } => to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_inputs_made_once() {
        let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
        let mut inputs: Vec<_> = ROWS.iter().map(Row::input).collect();
        inputs.dedup();
        let distinct: BTreeSet<_> = inputs.iter().collect();
        assert_eq!(distinct.len(), inputs.len(), "rows of one input stand apart: {inputs:?}");
    }

    #[test]
    fn bars_point_the_right_way() {
        assert_eq!(Bar::AtMost(1.15).is_met(1.15), Some(true));
        assert_eq!(Bar::AtMost(1.15).is_met(1.2), Some(false));
        assert_eq!(Bar::Faster(6.0).is_met(0.1), Some(true));
        assert_eq!(Bar::Faster(6.0).is_met(0.2), Some(false));
        assert_eq!(Bar::None.is_met(9.0), None);
    }
}
