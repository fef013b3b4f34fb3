//! Which mutations apply to a conversion.

use super::super::content::{Content, Held};
use crate::random::Random;
use modelferry_core::dtype::{Class, DType};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::plugin::{Carries, MetadataForm, Place, WriterInfo};

/// One thing that is made wrong. Tensors are named, for a writer may see them in another order.
#[derive(Clone, Debug)]
pub(super) enum Mutation {
    /// A layout in which one bit of a tensor's packed bytes is another.
    FlipBit { tensor: Held, at: u64, bit: u32 },
    /// A layout in which each tensor's bytes stand in the other's place.
    Swap { first: String, second: String },
    /// A writer that does not see a tensor.
    LeaveOut { tensor: String },
    /// A writer that sees another name.
    Rename { tensor: String },
    /// A writer that sees one more dimension, of extent 1.
    Reshape { tensor: String },
    /// A writer that sees another type of the same width.
    Retype { tensor: String, dtype: DType },
    /// A writer that sees another value.
    Describe { key: String },
    /// A report without a loss.
    DropLoss(Loss),
    /// A writer that declares something.
    ClaimLoss(Loss),
    /// A source that gives a tensor a second name, and a report or an output that knows nothing of it.
    BreakTie { tensor: String },
    /// An output that is read as if two tensors were one.
    MakeTie { first: String, second: String },
    /// A writer that sees no ties: the other half of a broken one.
    HideTies,
    /// A layout of a folder in which one file, no weights, has another byte at its end.
    SpoilFile { name: String },
    /// A layout of a folder in which it is not.
    LeaveFileOut { name: String },
}

impl Mutation {
    /// Position in [`KINDS`](super::KINDS).
    pub(super) fn kind(&self) -> usize {
        match self {
            Mutation::FlipBit { .. } => 0,
            Mutation::Swap { .. } => 1,
            Mutation::LeaveOut { .. } => 2,
            Mutation::Rename { .. } => 3,
            Mutation::Reshape { .. } => 4,
            Mutation::Retype { .. } => 5,
            Mutation::Describe { .. } => 6,
            Mutation::DropLoss(_) => 7,
            Mutation::ClaimLoss(_) => 8,
            Mutation::BreakTie { .. } | Mutation::HideTies => 9,
            Mutation::MakeTie { .. } => 10,
            Mutation::SpoilFile { .. } => 11,
            Mutation::LeaveFileOut { .. } => 12,
        }
    }
}

/// One mutation of each kind that can apply to the conversion `subject`, and every loss that can be dropped. What the
/// target can hold is said of its tensors first, then of the whole.
pub(super) fn plan(
    subject: &str,
    (info, whole): (&WriterInfo, &WriterInfo),
    before: &Content,
    after: &Content,
    losses: &[Loss],
    known: &[Loss],
) -> Vec<Mutation> {
    let mut random = Random::new(subject.bytes().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte)));
    let mut mutations = vec![];
    mutations.extend(flipped(before, &mut random));
    let is_other = |a: &Held, b: &Held| a.bytes != b.bytes;
    let swap = |(first, second)| Mutation::Swap { first, second };
    mutations.extend(alike(&before.tensors, &mut random, is_other).map(swap));
    let name = |held: &Held| held.name.clone();
    if before.tensors.len() > 1 {
        mutations.push(Mutation::LeaveOut { tensor: name(random.pick(&before.tensors)) });
    }
    if info.names == Carries::Yes && !before.tensors.is_empty() {
        mutations.push(Mutation::Rename { tensor: name(random.pick(&before.tensors)) });
        if (before.tensors.len() as u64) < info.max_tensors {
            mutations.push(Mutation::BreakTie { tensor: name(random.pick(&before.tensors)) });
        }
    }
    let max_rank = info.max_rank.min(Limits::default().rank);
    // The blocks of a row are the last dimension's.
    let can_grow = |held: &&Held| held.dtype.item_elements() == 1 && held.shape.len() < max_rank;
    let growing: Vec<String> = before.tensors.iter().filter(can_grow).map(name).collect();
    if !growing.is_empty() {
        mutations.push(Mutation::Reshape { tensor: random.pick(&growing).clone() });
    }
    mutations.extend(retyped(info, before, &mut random));
    // What is declared to be lost or to be written otherwise is not compared.
    let is_lost =
        |key: &str| losses.iter().any(|loss| loss.kind == LossKind::Metadata && loss.subject == key);
    let keys: Vec<&String> = before.metadata.iter().map(|(key, _)| key).filter(|key| !is_lost(key)).collect();
    if info.metadata != MetadataForm::None && !keys.is_empty() {
        mutations.push(Mutation::Describe { key: (*random.pick(&keys)).clone() });
    }
    if whole.place == Place::Folder && !before.assets.is_empty() {
        let names: Vec<String> = before.assets.keys().cloned().collect();
        mutations.push(Mutation::SpoilFile { name: random.pick(&names).clone() });
        mutations.push(Mutation::LeaveFileOut { name: random.pick(&names).clone() });
    }
    // That a config would be needed shows on neither side.
    let is_of_neither = |loss: &Loss| loss.kind == LossKind::Asset && !before.holds_file(&loss.subject);
    mutations.extend(
        losses
            .iter()
            .filter(|loss| !known.contains(loss) && !is_of_neither(loss))
            .cloned()
            .map(Mutation::DropLoss),
    );
    mutations.extend(claimed(before, losses, &mut random));
    let is_free = |a: &Held, b: &Held| !tied(after, &a.name, &b.name);
    let tie = |(first, second)| Mutation::MakeTie { first, second };
    mutations.extend(alike(&after.tensors, &mut random, is_free).map(tie));
    mutations
}

/// Any bit of any tensor, but none that only fills up a byte.
fn flipped(before: &Content, random: &mut Random) -> Option<Mutation> {
    let n_whole = |held: &Held| match held.dtype.bits() {
        Some(bits) => (held.bytes.len() as u64 / held.dtype.item_bytes()) * u64::from(bits) / 8,
        None => held.bytes.len() as u64,
    };
    let filled: Vec<&Held> = before.tensors.iter().filter(|held| n_whole(held) > 0).collect();
    if filled.is_empty() {
        return None;
    }
    let tensor = (*random.pick(&filled)).clone();
    let at = random.below(n_whole(&tensor));
    // Of a truth value one bit is used.
    let bit = if tensor.dtype == DType::Bool { 0 } else { random.below(8) as u32 };
    Some(Mutation::FlipBit { tensor, at, bit })
}

/// Two tensors of one type and shape that fit `is_wanted`, by name.
fn alike(
    tensors: &[Held],
    random: &mut Random,
    is_wanted: impl Fn(&Held, &Held) -> bool,
) -> Option<(String, String)> {
    let mut order: Vec<&Held> = tensors.iter().collect();
    random.shuffle(&mut order);
    order.iter().enumerate().find_map(|(idx, a)| {
        let fits = |b: &&&Held| a.dtype == b.dtype && a.shape == b.shape && is_wanted(a, b);
        let b = order[idx + 1..].iter().find(fits)?;
        Some((a.name.clone(), b.name.clone()))
    })
}

fn tied(content: &Content, first: &str, second: &str) -> bool {
    let holds = |group: &[usize], name: &str| group.iter().any(|&idx| content.tensors[idx].name == name);
    content.ties.iter().any(|group| holds(group, first) || holds(group, second))
}

/// Another type whose numbers are as wide.
fn retyped(info: &WriterInfo, before: &Content, random: &mut Random) -> Option<Mutation> {
    let is_real = |dtype: DType| matches!(dtype.class(), Class::Float | Class::Signed | Class::Unsigned);
    let mut choices = vec![];
    for held in before.tensors.iter().filter(|held| is_real(held.dtype)) {
        let is_as_wide =
            |dtype: &&DType| is_real(**dtype) && dtype.bits() == held.dtype.bits() && **dtype != held.dtype;
        choices.extend(info.dtypes.iter().filter(is_as_wide).map(|&dtype| (&held.name, dtype)));
    }
    if choices.is_empty() {
        return None;
    }
    let (tensor, dtype) = random.pick(&choices);
    Some(Mutation::Retype { tensor: (*tensor).clone(), dtype: *dtype })
}

/// A loss of a kind that did not happen, of something that is there.
fn claimed(before: &Content, losses: &[Loss], random: &mut Random) -> Option<Mutation> {
    let tensors: Vec<&str> = before.tensors.iter().map(|held| &*held.name).collect();
    let keys: Vec<&str> = before.metadata.iter().map(|(key, _)| &**key).collect();
    let files: Vec<&str> = before.assets.keys().map(String::as_str).collect();
    let subjects = |kind: LossKind| match kind {
        LossKind::Metadata => &keys,
        LossKind::Asset => &files,
        _ => &tensors,
    };
    let happened = |kind: LossKind| losses.iter().any(|loss| loss.kind == kind);
    // A layout is lost inside of the reader.
    let can_be =
        |kind: &LossKind| *kind != LossKind::Layout && !happened(*kind) && !subjects(*kind).is_empty();
    let kinds: Vec<LossKind> = LossKind::ALL.into_iter().filter(can_be).collect();
    if kinds.is_empty() {
        return None;
    }
    let kind = *random.pick(&kinds);
    Some(Mutation::ClaimLoss(Loss::declared(kind, *random.pick(subjects(kind)), "this did not happen")))
}
