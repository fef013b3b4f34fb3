//! What becomes of two names for one storage.

use crate::edits::Ties;
use modelferry_core::expr::NodeId;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::plugin::{Answer, Carries, Host, Query};
use modelferry_core::{DType, Error, Result};
use modelferry_hf::config::Config;

/// Settles every tie for a target that can or cannot hold them.
///
/// `auto` keeps where the target can. Where it cannot, it drops the output head that shares its storage with an
/// embedding, if the config says that the model's class ties them again, and copies all others.
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
            if wish == Ties::Auto {
                drop_heads(model, host, losses)?;
            }
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

/// Ends of the names of embeddings, as transformers' classes have them.
pub(crate) const EMBEDDINGS: [&str; 10] = [
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "word_embedding.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
    "shared.weight",
    "wemb.weight",
    "embeddings.weight",
    "embedding.weight",
];

/// Ends of the names of output heads that are tied to them.
pub(crate) const HEADS: [&str; 8] = [
    "lm_head.weight",
    "embed_out.weight",
    "proj_out.weight",
    "output.weight",
    "head.weight",
    "lm_head.decoder.weight",
    "predictions.decoder.weight",
    "generator_lm_head.weight",
];

/// Whether a name ends with one of these, and that at the start of a component.
pub(crate) fn ends_with(name: &str, endings: &[&str]) -> bool {
    endings
        .iter()
        .any(|end| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Drops output heads that are tied to an embedding, where the config says that they will be again.
fn drop_heads(model: &mut Model, host: &mut dyn Host, losses: &mut Vec<Loss>) -> Result<()> {
    let config = model.config.as_deref().and_then(|text| Config::parse(text, host.limits()).ok());
    if config.and_then(|config| config.ties_embeddings()) != Some(true) {
        return Ok(());
    }
    let mut keep = vec![true; model.tensors.len()];
    for group in &model.ties {
        let is_one_of = |idx: TensorIdx, endings: &[&str]| ends_with(&model.tensors[idx].name, endings);
        // A group with something else in it is not what the class ties.
        if !group.iter().all(|&idx| is_one_of(idx, &EMBEDDINGS) || is_one_of(idx, &HEADS)) {
            continue;
        }
        let Some(&first) = group.iter().find(|&&idx| is_one_of(idx, &EMBEDDINGS)) else { continue };
        for &idx in group.iter().filter(|&&idx| is_one_of(idx, &HEADS)) {
            let (embedding, head) = (&model.tensors[first], &model.tensors[idx]);
            if is_equal(model, embedding.data, head.data, host)? {
                let detail = format!("tied to {:?}, as the config says, and not written", embedding.name);
                losses.push(Loss::declared(LossKind::TieDropped, &head.name, detail));
                keep[idx] = false;
            }
        }
    }
    crate::retain(model, &keep);
    Ok(())
}

/// Whether two expressions give the same bytes.
pub(crate) fn is_equal(model: &Model, a: NodeId, b: NodeId, host: &mut dyn Host) -> Result<bool> {
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
