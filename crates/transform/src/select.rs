//! Which part of a nested checkpoint is the model.
//!
//! A checkpoint is a document: weights, perhaps a second copy of them (EMA), optimizer, scheduler, counters, arguments.
//! A set of weights is the highest dictionary or list that has tensors of its own, or what holds such where modules are
//! nested. State of the training is known by
//! its key, or by being what `torch.optim.Optimizer.state_dict` gives. One set is used and named; of several the user
//! must choose.

mod modules;

use crate::edits::Edits;
use modelferry_core::expr::{NodeId, Op};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, Tensor};
use modelferry_core::tree::{ObjectId, Tree, describe, join};
use modelferry_core::{DType, Error, Result};

/// Keys of state of the training: torch, Lightning, accelerate, DeepSpeed, Megatron, fairseq, timm, detectron2.
const STATE_KEYS: &[&str] = &[
    "optimizer",
    "optimizers",
    "optim",
    "opt",
    "optimizer_states",
    "optimizer_state",
    "optimizer_state_dict",
    "optim_state_dict",
    "optimizer_history",
    "last_optimizer_state",
    "opt_state",
    "lr_scheduler",
    "lr_schedulers",
    "scheduler",
    "schedulers",
    "scheduler_state_dict",
    "lr_scheduler_state_dict",
    "opt_param_scheduler",
    "scaler",
    "grad_scaler",
    "scaler_state_dict",
    "amp",
    "amp_scaler",
    "amp_scaling_state",
    "native_amp_scaling_state",
    "rng_state",
    "rng_states",
    "cuda_rng_state",
    "cuda_rng_state_all",
    "torch_rng_state",
    "np_rng_state",
    "numpy_rng_state",
    "python_rng_state",
    "random_rng_state",
    "rng",
    "loops",
    "callbacks",
];

/// Beginnings of the names of such state in a checkpoint that was flattened.
const FLAT_STATE: &[&str] = &["_optimizer", "optimizer_state"];

/// Keys under which programs keep a set of weights beside tensors of other kinds.
const WEIGHTS_KEYS: &[&str] = &[
    "state_dict",
    "model",
    "model_state",
    "model_state_dict",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "params_ema",
    "ema",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "ema_model",
    "generator",
    "discriminator",
];

/// Takes the part of a nested checkpoint that `edits` or the document itself says is the model, and leaves state of
/// the training out.
///
/// Tensors are named by their path in the part that is taken. Everything else is a loss:
/// [`LossKind::State`] and [`LossKind::Tree`] a part, [`LossKind::Name`] a tensor whose name became shorter.
///
/// Errors: [`Ambiguous`](modelferry_core::ErrorKind::Ambiguous) naming the sets with their sizes;
/// [`Usage`](modelferry_core::ErrorKind::Usage) for a path that leads nowhere;
/// [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for a document without tensors that is more than an empty
/// dictionary.
pub fn select(model: &mut Model, edits: &Edits, losses: &mut Vec<Loss>) -> Result<()> {
    let Some(tree) = model.tree.take() else { return flat(model, edits, losses) };
    let result = nested(model, &tree, edits, losses);
    model.tree = Some(tree);
    let Some(Chosen { root, path, keep, state }) = result? else { return flat(model, edits, losses) };
    if let Some(tree) = &mut model.tree {
        tree.set_root(root);
        state.into_iter().for_each(|(container, member)| crate::tree::remove(tree, container, member));
    }
    crate::retain(model, &keep);
    if !path.is_empty() {
        for tensor in &mut model.tensors {
            let Some(short) = tensor.name.strip_prefix(&path).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let short = short.to_owned();
            let loss = Loss::renamed(&*tensor.name, &*short, format_args!("taken from {path:?}"));
            tensor.name = short;
            losses.push(if edits.select.is_some() { loss.asked() } else { loss });
        }
    }
    Ok(())
}

/// Whether it is what `Optimizer.state_dict()` of torch gives.
fn is_optimizer(tree: &Tree, root: ObjectId) -> bool {
    let mut keys: Vec<String> = tree.members(root).into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys == ["param_groups", "state"]
}

/// State of the training in a model of plain names.
fn flat(model: &mut Model, edits: &Edits, losses: &mut Vec<Loss>) -> Result<()> {
    if let Some(path) = &edits.select
        && path != "."
    {
        return Err(Error::usage("--select: the input is not nested")
            .found(path)
            .hint("use --include and --strip-prefix"));
    }
    let is_state = |tensor: &Tensor| FLAT_STATE.iter().any(|start| tensor.name.starts_with(start));
    if edits.keep_optimizer || !model.tensors.iter().any(is_state) {
        return Ok(());
    }
    let keep: Vec<bool> = model.tensors.iter().map(|tensor| !is_state(tensor)).collect();
    for tensor in model.tensors.iter().filter(|tensor| is_state(tensor)) {
        losses.push(Loss::declared(LossKind::State, &tensor.name, "state of the training, left out"));
    }
    crate::retain(model, &keep);
    Ok(())
}

/// The part of a document that is taken.
struct Chosen {
    root: ObjectId,
    path: String,
    /// Per tensor.
    keep: Vec<bool>,
    /// State of the training in it, each with the container it goes from.
    state: Vec<(ObjectId, ObjectId)>,
}

/// A set of weights.
struct Set {
    id: ObjectId,
    path: String,
}

fn nested(model: &Model, tree: &Tree, edits: &Edits, losses: &mut Vec<Loss>) -> Result<Option<Chosen>> {
    let Some(root) = tree.root() else { return Ok(None) };
    if model.tensors.is_empty() && tree.mapping(root).is_none_or(|entries| !entries.is_empty()) {
        return Err(
            Error::unsupported("there is no tensor in it, and so no model").found(describe(tree, root))
        );
    }
    if edits.select.is_none() && !edits.keep_optimizer && is_optimizer(tree, root) {
        return Err(Error::unsupported("it is the state of an optimizer, and no model")
            .found(describe(tree, root))
            .hint("--keep-optimizer takes it as it is"));
    }
    let walk = Walk { tree, model, holds: tree.holding_tensors(), keep_state: edits.keep_optimizer };
    let set = match &edits.select {
        Some(path) if path == "." => Set { id: root, path: String::new() },
        Some(path) => walk.find(root, path)?,
        None if edits.keep_optimizer => Set { id: root, path: String::new() },
        None => match walk.only_set(root)? {
            Some(set) => set,
            None => Set { id: root, path: String::new() },
        },
    };
    let mut keep = vec![false; model.tensors.len()];
    let state = walk.keep_below(&set, &mut keep, losses);
    walk.report_beside(root, &set, edits.select.is_some(), losses);
    Ok(Some(Chosen { root: set.id, path: set.path, keep, state }))
}

struct Walk<'a> {
    tree: &'a Tree,
    model: &'a Model,
    holds: Vec<bool>,
    keep_state: bool,
}

impl Walk<'_> {
    fn tensor(&self, id: ObjectId) -> Option<&Tensor> {
        self.tree.tensor(id).map(|idx| &self.model.tensors[idx])
    }

    /// Whether a member of a container is state of the training.
    fn is_state(&self, key: &str, id: ObjectId) -> bool {
        if self.keep_state {
            return false;
        }
        let lower = key.to_ascii_lowercase();
        let by_key = STATE_KEYS.contains(&&*lower)
            || FLAT_STATE.iter().any(|start| lower.starts_with(start))
            || lower.ends_with("_optimizer")
            || lower.ends_with("rng_state");
        by_key || self.is_optimizer(id)
    }

    /// What `Optimizer.state_dict` of torch gives: `state` and `param_groups`.
    fn is_optimizer(&self, id: ObjectId) -> bool {
        let Some(entries) = self.tree.mapping(id) else { return false };
        let has = |name: &str| entries.iter().any(|(key, _)| self.tree.text(*key) == Some(name));
        has("state") && has("param_groups")
    }

    /// A counter, a measurement or an array of another program rather than a weight, as far as one can tell.
    fn is_loose(&self, tensor: &Tensor, key: &str) -> bool {
        let is_rng = tensor.dtype == DType::U8 && key.to_ascii_lowercase().contains("rng");
        tensor.shape.is_empty() || is_rng || self.is_inline(tensor.data)
    }

    /// Whether its bytes stand in the document itself, as those of numpy's arrays do.
    fn is_inline(&self, mut id: NodeId) -> bool {
        loop {
            match &self.model.nodes[id].op {
                Op::Inline(_) => return true,
                Op::Decode { of, .. } | Op::View { of, .. } => id = *of,
                _ => return false,
            }
        }
    }

    fn is_container(&self, id: ObjectId) -> bool {
        self.tree.tensor(id).is_none() && self.holds[id.idx()]
    }

    /// The one set of weights in a document; `None` where no dictionary has a tensor that is more than a number.
    fn only_set(&self, root: ObjectId) -> Result<Option<Set>> {
        let mut sets: Vec<Set> = vec![];
        let mut waiting = vec![Set { id: root, path: String::new() }];
        while let Some(at) = waiting.pop() {
            let members = self.tree.members(at.id);
            let is_weights =
                |(key, id): &&(String, ObjectId)| self.tensor(*id).is_some_and(|it| !self.is_loose(it, key));
            let own = members.iter().filter(is_weights).count();
            let below = || {
                let nested =
                    members.iter().filter(|(key, id)| self.is_container(*id) && !self.is_state(key, *id));
                nested.rev().map(|(key, id)| Set { id: *id, path: join(&at.path, key) })
            };
            if own == 0 {
                waiting.extend(below());
                continue;
            }
            // Tensors beside something that calls itself a model: nobody but the user knows which is meant.
            let named: Vec<Set> = below()
                .filter(|set| {
                    let key = set.path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
                    WEIGHTS_KEYS.contains(&&*key)
                })
                .collect();
            sets.push(at);
            sets.extend(named);
        }
        let mut sets = self.gathered(root, sets);
        match sets.len() {
            0 | 1 => Ok(sets.pop()),
            _ => Err(self.several(&sets)),
        }
    }

    fn several(&self, sets: &[Set]) -> Error {
        const SHOWN: usize = 8;
        let shown: Vec<String> = sets
            .iter()
            .take(SHOWN)
            .map(|set| {
                let mut keep = vec![false; self.model.tensors.len()];
                self.mark(set.id, &mut keep);
                let (n, sum) = self.size(&keep);
                let path = if set.path.is_empty() { "." } else { &set.path };
                format!("{path} ({n} tensors, {sum} parameters)")
            })
            .collect();
        let more =
            if sets.len() > SHOWN { format!(" and {} more", sets.len() - SHOWN) } else { String::new() };
        Error::ambiguous("the checkpoint holds several sets of weights")
            .found(format_args!("{}{more}", shown.join(", ")))
            .hint("choose one with --select, or all with --select .")
    }

    /// Number of tensors and of their elements.
    fn size(&self, keep: &[bool]) -> (usize, u64) {
        let kept = self.model.tensors.iter().zip(keep).filter(|(_, kept)| **kept);
        kept.fold((0, 0), |(n, sum), (tensor, _)| (n + 1, sum.saturating_add(tensor.n_elements())))
    }

    /// The part whose path is `path`. Keys may hold dots themselves.
    fn find(&self, root: ObjectId, path: &str) -> Result<Set> {
        let mut waiting = vec![(root, path)];
        while let Some((id, rest)) = waiting.pop() {
            for (key, member) in self.tree.members(id) {
                let Some(rest) = rest.strip_prefix(&key) else { continue };
                if rest.is_empty() && self.is_container(member) {
                    return Ok(Set { id: member, path: path.to_owned() });
                }
                if let Some(rest) = rest.strip_prefix('.') {
                    waiting.push((member, rest));
                }
            }
        }
        let known: Vec<String> = self
            .tree
            .members(root)
            .into_iter()
            .filter(|(_, id)| self.is_container(*id))
            .map(|(key, _)| key)
            .collect();
        Err(Error::usage("--select: no part with tensors has this path")
            .expected(if known.is_empty() { ".".to_owned() } else { known.join(", ") })
            .found(path))
    }

    fn mark(&self, id: ObjectId, keep: &mut [bool]) {
        let mut waiting = vec![(String::new(), id)];
        while let Some((_, id)) = waiting.pop() {
            if let Some(idx) = self.tree.tensor(id) {
                keep[idx] = true;
            } else if self.holds[id.idx()] {
                let members = self.tree.members(id).into_iter();
                waiting.extend(members.filter(|(key, member)| !self.is_state(key, *member)));
            }
        }
    }

    /// Marks the tensors of a set; state of the training inside of it is left out and named.
    fn keep_below(&self, set: &Set, keep: &mut [bool], losses: &mut Vec<Loss>) -> Vec<(ObjectId, ObjectId)> {
        self.mark(set.id, keep);
        let mut state = vec![];
        let mut waiting = vec![(set.path.clone(), set.id)];
        while let Some((path, id)) = waiting.pop() {
            for (key, member) in self.tree.members(id) {
                if self.is_state(&key, member) {
                    losses.push(self.state(join(&path, &key), member));
                    state.push((id, member));
                } else if self.is_container(member) {
                    waiting.push((join(&path, &key), member));
                }
            }
        }
        state
    }

    fn state(&self, path: String, id: ObjectId) -> Loss {
        let mut keep = vec![false; self.model.tensors.len()];
        let all = Walk { tree: self.tree, model: self.model, holds: self.holds.clone(), keep_state: true };
        all.mark(id, &mut keep);
        let tensors = self.model.tensors.iter().zip(&keep).filter(|(_, kept)| **kept);
        let bytes = tensors.fold(0u64, |sum, (tensor, _)| sum.saturating_add(tensor.byte_len()));
        let detail = match self.size(&keep).0 {
            0 => format!("state of the training, left out: {}", describe(self.tree, id)),
            n => format!("state of the training, left out: {n} tensors of {bytes} bytes"),
        };
        Loss::declared(LossKind::State, path, detail)
    }

    /// Names everything outside of the set, each part as high up as it can be named.
    fn report_beside(&self, root: ObjectId, set: &Set, is_asked: bool, losses: &mut Vec<Loss>) {
        let mut waiting = vec![(String::new(), root)];
        while let Some((path, id)) = waiting.pop() {
            if id == set.id {
                continue;
            }
            for (key, member) in self.tree.members(id) {
                let place = join(&path, &key);
                if member == set.id {
                    continue;
                }
                if self.leads_to(set, &place) && self.is_container(member) {
                    waiting.push((place, member));
                    continue;
                }
                let loss = match self.tensor(member) {
                    _ if self.is_state(&key, member) => self.state(place, member),
                    Some(tensor) if self.is_loose(tensor, &key) && !is_asked => {
                        let detail =
                            format!("{} {:?} beside the weights, left out", tensor.dtype, tensor.shape);
                        Loss::declared(LossKind::Tree, place, detail)
                    }
                    Some(_) => Loss::declared(LossKind::Tensor, place, "not in the part that was chosen"),
                    None if self.is_container(member) => {
                        let mut keep = vec![false; self.model.tensors.len()];
                        self.mark(member, &mut keep);
                        let names = self.model.tensors.iter().zip(&keep).filter(|(_, marked)| **marked);
                        let detail = "not in the part that was chosen";
                        for (tensor, _) in names {
                            let loss = Loss::declared(LossKind::Tensor, &tensor.name, detail);
                            losses.push(if is_asked { loss.asked() } else { loss });
                        }
                        continue;
                    }
                    None => Loss::declared(
                        LossKind::Tree,
                        place,
                        format!("left out: {}", describe(self.tree, member)),
                    ),
                };
                losses.push(if is_asked { loss.asked() } else { loss });
            }
        }
    }

    fn leads_to(&self, set: &Set, place: &str) -> bool {
        set.path.strip_prefix(place).is_some_and(|rest| rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests;
