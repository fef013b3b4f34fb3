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
}

/// Whom we are measured against.
pub(crate) enum Reference {
    /// `cp` of the input.
    Cp,
    /// A copy of as many bytes of the input as there are of weights in it.
    CpOfWeights,
    /// A script that gets input and output and prints the seconds of its work.
    Python { name: &'static str, script: &'static str, to: &'static str, clock: Clock },
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
    Work { input, to, options: &[] }
}

const fn to_bf16(input: Name) -> Work {
    Work { input, to: "safetensors", options: BF16 }
}

const fn dry(to: &'static str) -> Work {
    Work { input: Name::Million, to, options: DRY }
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

const NUMPY_TO_SAFETENSORS: Reference = Reference::Python {
    name: "np.load + save_file",
    to: "safetensors",
    clock: Clock::Work,
    script: "
import sys, time
import numpy as np
from safetensors.numpy import save_file
begun = time.perf_counter()
with np.load(sys.argv[1]) as archive:
    save_file({name: archive[name] for name in archive.files}, sys.argv[2])
print(time.perf_counter() - begun)
",
};

const SAFETENSORS_TO_NUMPY: Reference = Reference::Python {
    name: "load_file + np.savez",
    to: "npz",
    clock: Clock::Work,
    script: "
import sys, time
import numpy as np
from safetensors.numpy import load_file
begun = time.perf_counter()
np.savez(sys.argv[2], **load_file(sys.argv[1]))
print(time.perf_counter() - begun)
",
};

const TORCH_TO_SAFETENSORS: Reference =
    torch_to_safetensors("torch.load(mmap=True) + save_file", Clock::Work);

/// With both mapped, torch's work is one copy, of which no program can be a sixth; a user waits for its start too.
const TORCH_PROCESS_TO_SAFETENSORS: Reference =
    torch_to_safetensors("python: torch.load(mmap=True) + save_file, start to exit", Clock::Process);

const fn torch_to_safetensors(name: &'static str, clock: Clock) -> Reference {
    Reference::Python {
        name,
        to: "safetensors",
        clock,
        script: "
import sys, time
import torch
from safetensors.torch import save_file
begun = time.perf_counter()
save_file(torch.load(sys.argv[1], mmap=True, weights_only=True), sys.argv[2])
print(time.perf_counter() - begun)
",
    }
}

const SAFETENSORS_TO_TORCH: Reference = Reference::Python {
    name: "load_file + torch.save",
    to: "bin",
    clock: Clock::Work,
    script: "
import sys, time
import torch
from safetensors.torch import load_file
begun = time.perf_counter()
torch.save(load_file(sys.argv[1]), sys.argv[2])
print(time.perf_counter() - begun)
",
};

const TORCH_TO_BF16: Reference = Reference::Python {
    name: "torch: load_file, to, save_file",
    to: "safetensors",
    clock: Clock::Work,
    script: "
import sys, time
import torch
from safetensors.torch import load_file, save_file
begun = time.perf_counter()
save_file({name: tensor.to(torch.bfloat16) for name, tensor in load_file(sys.argv[1]).items()}, sys.argv[2])
print(time.perf_counter() - begun)
",
};

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
    beside_cp("st-bin", "f32, safetensors to .bin with CRC", plain(Name::F32, "bin"), 1.15),
    beside(
        "st-bin-torch",
        "f32, safetensors to .bin",
        plain(Name::F32, "bin"),
        SAFETENSORS_TO_TORCH,
        Bar::Faster(5.0),
    ),
    memory("memory-st-bin", "f32, safetensors to .bin", plain(Name::F32, "bin")),
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
    seconds("million-st", "a million tensors laid out as safetensors", dry("safetensors"), 5.0),
    seconds("million-npz", "a million tensors laid out as npz", dry("npz"), 5.0),
    memory("memory-million", "a million tensors laid out as safetensors", dry("safetensors")),
    memory("memory-million-npz", "a million tensors laid out as npz", dry("npz")),
    memory("memory-sparse", "one f32 tensor of 4 GiB, sparse, copied", plain(Name::Sparse, "safetensors")),
    memory("memory-sparse-bf16", "one f32 tensor of 4 GiB, sparse, to bf16", to_bf16(Name::Sparse)),
];

impl Row {
    fn work(&self) -> &Work {
        match &self.kind {
            Kind::Ratio { work, .. } | Kind::Seconds { work, .. } | Kind::Memory { work } => work,
        }
    }

    pub(crate) fn input(&self) -> Name {
        self.work().input
    }

    pub(crate) fn needs_python(&self) -> bool {
        let is_made_so = matches!(self.input(), Name::Torch | Name::Adam);
        is_made_so || matches!(self.kind, Kind::Ratio { reference: Reference::Python { .. }, .. })
    }
}

impl Work {
    /// Whether nothing is written.
    pub(crate) fn is_dry(&self) -> bool {
        self.options == DRY
    }

    /// Whether the output holds half of the input's bytes.
    pub(crate) fn halves(&self) -> bool {
        self.options == BF16
    }
}

impl Reference {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Reference::Cp => "cp",
            Reference::CpOfWeights => "cp of the weights' bytes",
            Reference::Python { name, .. } => name,
        }
    }

    pub(crate) fn extension(&self) -> &'static str {
        match self {
            Reference::Cp | Reference::CpOfWeights => "copy",
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
