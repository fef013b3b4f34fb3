//! Which tensors are taken, and under which names.

use crate::edits::{Edits, StripPrefix};
use crate::glob::Glob;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Model;
use modelferry_core::{Error, Result};
use std::collections::HashMap;

/// Prefixes that wrappers add to every name: DataParallel and DDP, `torch.compile`, FSDP, activation checkpointing.
/// `model.` is not among them, for many models own that name.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

/// What a Lightning checkpoint calls itself by (`pytorch_lightning/trainer/connectors/checkpoint_connector.py`), and the
/// attribute under which most of its modules keep the model.
const LIGHTNING: [&str; 2] = ["pytorch-lightning_version", "model."];

/// The prefixes that are wrappers' in a model as it was read, before a part of it is taken.
pub(crate) fn wrappers(model: &Model) -> Vec<&'static str> {
    let [version, prefix] = LIGHTNING;
    let is_lightning = model.tree.as_ref().is_some_and(|tree| {
        let entries = tree.root().and_then(|root| tree.mapping(root)).unwrap_or_default();
        entries.iter().any(|(key, _)| tree.text(*key) == Some(version))
    });
    WRAPPERS.into_iter().chain(is_lightning.then_some(prefix)).collect()
}

/// Takes what `--include` names and leaves out what `--exclude` names.
pub(crate) fn choose(model: &mut Model, edits: &Edits, losses: &mut Vec<Loss>) -> Result<()> {
    if edits.include.is_empty() && edits.exclude.is_empty() {
        return Ok(());
    }
    let mut include_used = vec![false; edits.include.len()];
    let mut exclude_used = vec![false; edits.exclude.len()];
    let mut keep = Vec::with_capacity(model.tensors.len());
    for tensor in &model.tensors {
        let included = any_match(&edits.include, &mut include_used, &tensor.name);
        let excluded = any_match(&edits.exclude, &mut exclude_used, &tensor.name);
        let reason = if excluded {
            "left out by --exclude"
        } else if !included && !edits.include.is_empty() {
            "not in --include"
        } else {
            keep.push(true);
            continue;
        };
        keep.push(false);
        losses.push(Loss::declared(LossKind::Tensor, &tensor.name, reason).asked());
    }
    all_used("--include", &edits.include, &include_used)?;
    all_used("--exclude", &edits.exclude, &exclude_used)?;
    crate::retain(model, &keep);
    Ok(())
}

/// Whether a pattern matches; every one that does is marked as used.
pub(crate) fn any_match(globs: &[Glob], used: &mut [bool], name: &str) -> bool {
    let mut any = false;
    for (glob, used) in globs.iter().zip(used) {
        // Patterns already known to be of use need not be tried once one has matched.
        if (!any || !*used) && glob.matches(name) {
            any = true;
            *used = true;
        }
    }
    any
}

/// A pattern that matches nothing is most likely misspelt: refused, by name.
pub(crate) fn all_used(option: &str, globs: &[Glob], used: &[bool]) -> Result<()> {
    match globs.iter().zip(used).find(|(_, used)| !**used) {
        None => Ok(()),
        Some((glob, _)) => {
            Err(Error::usage(format!("{option}: the pattern matches no tensor")).found(glob.text()))
        }
    }
}

/// Cuts prefixes off names.
pub(crate) fn strip(
    model: &mut Model,
    edits: &Edits,
    wrappers: &[&str],
    losses: &mut Vec<Loss>,
) -> Result<()> {
    match &edits.strip_prefix {
        StripPrefix::None => Ok(()),
        StripPrefix::Auto => {
            let borne = |model: &Model, prefix: &str| {
                // A name that is nothing but the prefix would be left empty.
                let fits = |name: &str| name.len() > prefix.len() && name.starts_with(prefix);
                !model.tensors.is_empty() && model.tensors.iter().all(|tensor| fits(&tensor.name))
            };
            let mut before = None;
            // Wrappers nest (`module._orig_mod.`), so this goes on until none is left.
            while let Some(prefix) = wrappers.iter().find(|prefix| borne(model, prefix)) {
                before.get_or_insert_with(|| {
                    model.tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
                });
                for tensor in &mut model.tensors {
                    tensor.name.drain(..prefix.len());
                }
            }
            if before.is_some() {
                crate::tree::rename(model, losses)?;
            }
            for (tensor, before) in model.tensors.iter().zip(before.into_iter().flatten()) {
                losses.push(Loss::renamed(before, &tensor.name, "wrapper prefix stripped"));
            }
            Ok(())
        }
        StripPrefix::Prefix(prefix) => {
            let renamed = model.tensors.iter().map(|tensor| tensor.name.strip_prefix(prefix.as_str()));
            let renamed: Vec<Option<String>> = renamed.map(|name| name.map(str::to_owned)).collect();
            if renamed.iter().all(Option::is_none) {
                return Err(Error::usage("--strip-prefix: no tensor bears the prefix").found(prefix));
            }
            give_names(model, renamed, "--strip-prefix", losses)
        }
    }
}

/// Rewrites names.
pub(crate) fn rename(model: &mut Model, edits: &Edits, losses: &mut Vec<Loss>) -> Result<()> {
    if edits.rename.is_empty() {
        return Ok(());
    }
    let mut used = vec![false; edits.rename.len()];
    let mut renamed = Vec::with_capacity(model.tensors.len());
    for tensor in &model.tensors {
        let mut name: Option<String> = None;
        for (rule, used) in edits.rename.iter().zip(&mut used) {
            let before = name.as_deref().unwrap_or(&tensor.name);
            if rule.regex.is_match(before) {
                *used = true;
                name = Some(rule.regex.replace_all(before, rule.replacement.as_str()).into_owned());
            }
        }
        renamed.push(name.filter(|name| *name != tensor.name));
    }
    if let Some((rule, _)) = edits.rename.iter().zip(&used).find(|(_, used)| !**used) {
        return Err(Error::usage("--rename: the expression matches no tensor").found(&rule.text));
    }
    give_names(model, renamed, "--rename", losses)
}

/// Gives each tensor its new name, if it has one, having checked that no two end up alike.
fn give_names(
    model: &mut Model,
    renamed: Vec<Option<String>>,
    option: &str,
    losses: &mut Vec<Loss>,
) -> Result<()> {
    let mut taken: HashMap<&str, &str> = HashMap::with_capacity(model.tensors.len());
    for (tensor, new_name) in model.tensors.iter().zip(&renamed) {
        let name = new_name.as_deref().unwrap_or(&tensor.name);
        if name.is_empty() {
            return Err(Error::usage(format!("{option}: a name would be empty")).tensor(&tensor.name));
        }
        if let Some(other) = taken.insert(name, &tensor.name) {
            return Err(Error::usage(format!("{option}: two tensors would have one name"))
                .tensor(name)
                .found(format_args!("{other:?} and {:?}", tensor.name)));
        }
    }
    let any = renamed.iter().any(Option::is_some);
    for (tensor, new_name) in model.tensors.iter_mut().zip(renamed) {
        if let Some(new_name) = new_name {
            let old_name = std::mem::replace(&mut tensor.name, new_name);
            losses.push(Loss::renamed(old_name, &tensor.name, format_args!("by {option}")).asked());
        }
    }
    if any {
        crate::tree::rename(model, losses)?;
    }
    Ok(())
}
