//! What becomes of two names for one storage.

use crate::edits::Ties;
use modelferry_core::expr::NodeId;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::plugin::{Answer, Carries, Host, Query};
use modelferry_core::{DType, Error, Result};

/// Settles every tie for a target that can or cannot hold them.
///
/// `auto` keeps where the target can and copies where it cannot. It never drops: that a loader would tie the names
/// again is known only from a configuration, and none is read yet.
pub(crate) fn settle(
    model: &mut Model,
    wish: Ties,
    target: Carries,
    host: &mut dyn Host,
    losses: &mut Vec<Loss>,
) -> Result<()> {
    split_unlike(model, losses);
    if model.ties.is_empty() {
        return Ok(());
    }
    match (wish, target) {
        (Ties::Keep | Ties::Auto, Carries::Yes) => Ok(()),
        (Ties::Keep, Carries::No) => {
            let group = &model.ties[0];
            let (first, second) = (&model.tensors[group[0]].name, &model.tensors[group[1]].name);
            Err(Error::target("the format cannot tie two names to one storage")
                .tensor(second)
                .found(format_args!("a tie with {first:?}"))
                .hint("pass --ties copy or --ties drop"))
        }
        (Ties::Auto, Carries::No) | (Ties::Copy, _) => {
            for group in std::mem::take(&mut model.ties) {
                for &idx in &group[1..] {
                    let detail = format!("was tied to {:?}, written as a copy", model.tensors[group[0]].name);
                    let loss = Loss::declared(LossKind::TieCopied, &model.tensors[idx].name, detail);
                    losses.push(if wish == Ties::Copy { loss.asked() } else { loss });
                }
            }
            Ok(())
        }
        (Ties::Drop, _) => {
            let mut keep = vec![true; model.tensors.len()];
            for group in std::mem::take(&mut model.ties) {
                for &idx in &group[1..] {
                    let (first, later) = (&model.tensors[group[0]], &model.tensors[idx]);
                    if !is_equal(model, first.data, later.data, host)? {
                        return Err(Error::target("--ties drop: the tied tensors differ")
                            .tensor(&later.name)
                            .expected(format_args!("the bytes of {:?}", first.name))
                            .hint("pass --ties copy"));
                    }
                    let detail = format!("tied to {:?}, not written", first.name);
                    losses.push(Loss::declared(LossKind::TieDropped, &later.name, detail).asked());
                    keep[idx] = false;
                }
            }
            crate::retain(model, &keep);
            Ok(())
        }
    }
}

fn is_equal(model: &Model, a: NodeId, b: NodeId, host: &mut dyn Host) -> Result<bool> {
    if a == b {
        return Ok(true);
    }
    match host.ask(model, Query::Equal(a, b))? {
        Answer::Bool(equal) => Ok(equal),
        other => {
            Err(Error::plugin("the host gave an answer of another kind").found(format_args!("{other:?}")))
        }
    }
}

/// Splits ties whose members `--keep-dtype` has made unlike.
fn split_unlike(model: &mut Model, losses: &mut Vec<Loss>) {
    for group in std::mem::take(&mut model.ties) {
        let mut alike: Vec<(DType, Vec<TensorIdx>)> = vec![];
        for idx in group {
            let dtype = model.tensors[idx].dtype;
            match alike.iter_mut().find(|(known, _)| *known == dtype) {
                Some((_, members)) => members.push(idx),
                None => alike.push((dtype, vec![idx])),
            }
        }
        for (_, members) in &alike[1..] {
            let first = &model.tensors[alike[0].1[0]];
            let own = &model.tensors[members[0]];
            let detail = format!("was tied to {:?}, which is now {}", first.name, first.dtype);
            losses.push(Loss::declared(LossKind::TieCopied, &own.name, detail).asked());
        }
        model.ties.extend(alike.into_iter().map(|(_, members)| members).filter(|members| members.len() > 1));
    }
}
