//! What a conversion drops, rounds, renames or re-lays-out, as data.

use crate::one_line::{OneLine, shown};
use std::fmt::{self, Write};

/// The closed list of things that can be lost or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LossKind {
    /// Elements are rounded to another dtype.
    Dtype,
    /// A finite value became infinite or NaN, or was clipped.
    Overflow,
    /// A value that is not zero became zero.
    Underflow,
    /// Values that are NaN or infinite are to be quantized, which knows neither.
    NonFinite,
    /// A tensor is quantized to another type than was asked for, because its rows do not hold whole blocks of that, or
    /// without the importance matrix that was given, because that does not know it.
    Fallback,
    /// A tensor is not written.
    Tensor,
    /// Where the weights of one model take the place of those of another: one of the first has no place, or one of the
    /// second keeps its values.
    Unmatched,
    /// A tensor is written under another name.
    Name,
    /// Two names that shared one storage are written as two copies.
    TieCopied,
    /// The second of two names that share one storage is not written.
    TieDropped,
    /// Tensors are written in another order.
    Order,
    /// A metadata entry is not written, or as another.
    Metadata,
    /// State of the training and not of the model: optimizer, scheduler, scaler, random numbers.
    State,
    /// A part of a nested checkpoint that is neither tensors nor state of the training: counters, arguments, objects.
    Tree,
    /// The program around the tensors, or a part of it that holds none, is not written.
    Graph,
    /// A file of the model's folder is not written, or as another.
    Asset,
    /// The bytes of a tensor were column-major or foreign-endian and are written row-major and little-endian; or its axes
    /// stood in another order, and are written in that of the model.
    Layout,
}

impl LossKind {
    /// Every kind.
    pub const ALL: [LossKind; 17] = [
        LossKind::Dtype,
        LossKind::Overflow,
        LossKind::Underflow,
        LossKind::NonFinite,
        LossKind::Fallback,
        LossKind::Tensor,
        LossKind::Unmatched,
        LossKind::Name,
        LossKind::TieCopied,
        LossKind::TieDropped,
        LossKind::Order,
        LossKind::Metadata,
        LossKind::State,
        LossKind::Tree,
        LossKind::Graph,
        LossKind::Asset,
        LossKind::Layout,
    ];

    /// The kind's name in `--allow` and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            LossKind::Dtype => "dtype",
            LossKind::Overflow => "overflow",
            LossKind::Underflow => "underflow",
            LossKind::NonFinite => "non-finite",
            LossKind::Fallback => "fallback",
            LossKind::Tensor => "tensor",
            LossKind::Unmatched => "unmatched",
            LossKind::Name => "name",
            LossKind::TieCopied => "tie-copied",
            LossKind::TieDropped => "tie-dropped",
            LossKind::Order => "order",
            LossKind::Metadata => "metadata",
            LossKind::State => "state",
            LossKind::Tree => "tree",
            LossKind::Graph => "graph",
            LossKind::Asset => "asset",
            LossKind::Layout => "layout",
        }
    }

    /// The kind whose [`name`](LossKind::name) is `name`.
    pub fn from_name(name: &str) -> Option<LossKind> {
        LossKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How bad it is when nobody asked for it.
    pub fn severity(self) -> Severity {
        match self {
            LossKind::Dtype | LossKind::Overflow | LossKind::NonFinite | LossKind::Tensor => Severity::Refuse,
            LossKind::Fallback
            | LossKind::Unmatched
            | LossKind::Metadata
            | LossKind::Tree
            | LossKind::Graph
            | LossKind::Asset
            | LossKind::TieDropped => Severity::Warning,
            LossKind::Underflow
            | LossKind::State
            | LossKind::Name
            | LossKind::TieCopied
            | LossKind::Order
            | LossKind::Layout => Severity::Note,
        }
    }
}

/// What happens about a loss that no option asked for. `--strict` refuses every one of them, notes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// No information is gone; it is reported.
    Note,
    /// A sidecar is gone; it is reported as a warning.
    Warning,
    /// Tensor information would be gone: refused unless `--allow` names the kind.
    Refuse,
}

/// When a loss is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From the plan, before anything is written.
    Declared,
    /// From the values, while writing.
    Observed,
}

/// One thing lost or changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// What kind of thing.
    pub kind: LossKind,
    /// Which tensor or key.
    pub subject: String,
    /// Under which name it is written, where that is another.
    pub renamed: Option<String>,
    /// Axis `k` of what is written is axis `axes[k]` of the source's tensor. Empty: they are as they were.
    pub axes: Box<[u8]>,
    /// What became of it, for a person.
    pub detail: String,
    /// When it was known.
    pub phase: Phase,
    /// Whether an option on the command line asked for exactly this.
    pub asked: bool,
}

impl Loss {
    /// A loss known from the plan that nobody asked for.
    pub fn declared(kind: LossKind, subject: impl Into<String>, detail: impl Into<String>) -> Loss {
        let (subject, detail) = (subject.into(), detail.into());
        Loss {
            kind,
            subject,
            renamed: None,
            axes: Box::default(),
            detail,
            phase: Phase::Declared,
            asked: false,
        }
    }

    /// A loss seen in the values.
    pub fn observed(kind: LossKind, subject: impl Into<String>, detail: impl Into<String>) -> Loss {
        Loss { phase: Phase::Observed, ..Loss::declared(kind, subject, detail) }
    }

    /// A tensor that is written under another name, which nobody asked for.
    pub fn renamed(from: impl Into<String>, to: impl Into<String>, why: impl fmt::Display) -> Loss {
        let to = to.into();
        let detail = format!("{why}, written as {to:?}");
        Loss { renamed: Some(to), ..Loss::declared(LossKind::Name, from, detail) }
    }

    /// A tensor whose axes are written in another order than they have in the source, by the name it is written under.
    pub fn turned(subject: impl Into<String>, axes: Box<[u8]>) -> Loss {
        let detail = format!("an exporter turned it over, axes {axes:?} of the graph's tensor are written");
        Loss { axes, ..Loss::declared(LossKind::Layout, subject, detail) }
    }

    /// The same loss, asked for by an option.
    pub fn asked(mut self) -> Loss {
        self.asked = true;
        self
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(OneLine(f), "{}: {}: {}", self.kind.name(), shown(&self.subject), self.detail)
    }
}
