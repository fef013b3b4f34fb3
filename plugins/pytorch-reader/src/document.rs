//! The document that a checkpoint is: its tensors found, named by where they stand, and put in place of the calls that
//! would have made them.

use crate::modules::{self, Taken};
use crate::path::{Key, Path, Paths};
use crate::tensors::{Added, Tensors, add_claims, moved};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::tree::{Object, ObjectId, Tree};
use modelferry_core::{Error, Result};
use modelferry_wire::torch::{Checkpoint, Data, Kind, tensor};

/// Adds the tensors of a checkpoint to the model and gives back its document, in which each stands once.
///
/// A tensor is named by the keys that lead to it, joined by dots; one that is the whole document, by `alone`. Whole
/// modules and objects of TorchScript become the dictionaries that they would give. Objects that nobody here can make
/// stay as they are recorded; tensors inside of them are not found, and counted in a loss.
pub(crate) fn add(
    model: &mut Model,
    mut checkpoint: Checkpoint,
    alone: &str,
    limits: &Limits,
) -> Result<Tree> {
    add_claims(model, &checkpoint)?;
    let Some(root) = checkpoint.tree.root() else { return Ok(checkpoint.tree) };
    let mut walk = Walk {
        alone,
        paths: Paths::default(),
        model,
        checkpoint: &mut checkpoint,
        tensors: Tensors::new(),
        limits,
        seen: vec![],
        again: vec![],
        n_wanting: 0,
    };
    walk.first(root)?;
    walk.second()?;
    let Walk { tensors, n_wanting, .. } = walk;
    tensors.finish(model);
    // A program's own tensors are all its parameters.
    if n_wanting > 0 && !matches!(checkpoint.kind, Kind::TorchScript | Kind::Exported) {
        let detail = format!("{n_wanting} tensors that are no parameters want a gradient, which is not kept");
        model.losses.push(Loss::declared(LossKind::Tree, "requires_grad", detail));
    }
    checkpoint.tree.free_unreachable();
    Ok(checkpoint.tree)
}

/// A member of a container: the container, its place among the members, and itself.
#[derive(Clone, Copy)]
struct Slot {
    container: Option<ObjectId>,
    position: usize,
    id: ObjectId,
}

struct Walk<'a> {
    /// The name of a tensor that is the whole document.
    alone: &'a str,
    paths: Paths,
    model: &'a mut Model,
    checkpoint: &'a mut Checkpoint,
    tensors: Tensors,
    limits: &'a Limits,
    /// Per object, whether it was looked into.
    seen: Vec<bool>,
    /// Containers that were met again, under other names.
    again: Vec<(Path, Slot)>,
    /// Tensors that want a gradient and are no parameters.
    n_wanting: u64,
}

/// How many objects may be copied for those that stand in several places, in objects of the document.
const MAX_COPIES: usize = 8;

impl Walk<'_> {
    fn tree(&self) -> &Tree {
        &self.checkpoint.tree
    }

    fn push(&mut self, object: Object) -> Result<ObjectId> {
        Limits::check("too many objects", self.tree().len() as u64, self.limits.objects)?;
        self.checkpoint.tree.push(object).ok_or_else(|| Error::limit("too many objects"))
    }

    /// Whether nobody has looked into an object before.
    fn is_first_look(&mut self, id: ObjectId) -> bool {
        if self.seen.len() <= id.idx() {
            self.seen.resize(self.tree().len(), false);
        }
        !std::mem::replace(&mut self.seen[id.idx()], true)
    }

    /// Names everything by the first path that leads to it.
    fn first(&mut self, root: ObjectId) -> Result<()> {
        let mut waiting = vec![(None, Slot { container: None, position: 0, id: root })];
        while let Some((path, slot)) = waiting.pop() {
            if self.leaf(path, slot)? {
                continue;
            }
            if let Some(taken) = modules::kind(self.tree(), slot.id) {
                self.take(path, slot.id, taken)?;
            }
            if self.tree().values(slot.id).next().is_none() {
                self.report_inside(path, slot.id)?;
                continue;
            }
            if !self.is_first_look(slot.id) {
                self.again.push((path, slot));
                continue;
            }
            self.put_members(path, slot.id, &mut waiting)?;
        }
        Ok(())
    }

    /// Gives what stands in several places an object for each, for a tensor has one name.
    fn second(&mut self) -> Result<()> {
        if self.again.is_empty() {
            return Ok(());
        }
        let holds = self.tree().holding_tensors();
        // What was pushed since then is a copy of something that holds some.
        let is_held = |id: ObjectId| holds.get(id.idx()).copied().unwrap_or(true);
        let most = holds.len() * (1 + MAX_COPIES);
        let mut waiting: Vec<(Path, Slot)> = std::mem::take(&mut self.again);
        waiting.reverse();
        while let Some((path, slot)) = waiting.pop() {
            if !is_held(slot.id) || self.leaf(path, slot)? {
                continue;
            }
            // Dictionaries that hold each other in a circle end here too.
            Limits::check(
                "dictionaries of tensors stand in so many places that they cannot be written out",
                self.tree().len() as u64,
                most as u64,
            )?;
            let copy = self.push(self.tree()[slot.id].clone())?;
            self.replace(slot, copy);
            self.put_members(path, copy, &mut waiting)?;
        }
        Ok(())
    }

    /// Puts the members of a container on a stack, so that the first is taken first.
    fn put_members(
        &mut self,
        path: Path,
        container: ObjectId,
        waiting: &mut Vec<(Path, Slot)>,
    ) -> Result<()> {
        let tree = &self.checkpoint.tree;
        let entries = tree.mapping(container);
        let keys = entries.unwrap_or_default().iter().map(|(key, _)| *key);
        let n_loose = keys.filter(|key| matches!(tree[*key], Object::LooseText(_))).count();
        if n_loose > 0 {
            let detail = format!("{n_loose} of its keys hold half characters, which names show as \\udxxx");
            self.model.losses.push(Loss::declared(LossKind::Tree, self.paths.shown(path, tree), detail));
        }
        let first = waiting.len();
        for (position, id) in tree.values(container).enumerate() {
            let key = entries.map_or(Key::At(position), |entries| Key::Of(entries[position].0));
            let slot = Slot { container: Some(container), position, id };
            waiting.push((self.paths.below(path, key)?, slot));
        }
        waiting[first..].reverse();
        Ok(())
    }

    /// Makes an object that is no dictionary or list one.
    fn take(&mut self, path: Path, id: ObjectId, taken: Taken) -> Result<()> {
        let class = self.class(id);
        let members = modules::members(&mut self.checkpoint.tree, id, taken, self.limits)?;
        *self.checkpoint.tree.get_mut(id) = members;
        if taken != Taken::Pairs {
            let what = match taken {
                Taken::Module | Taken::Script => "taken for its parameters and buffers",
                _ => "taken for what it holds",
            };
            let detail = format!("an object of {class}, {what}");
            self.model.losses.push(Loss::declared(
                LossKind::Tree,
                self.paths.shown(path, self.tree()),
                detail,
            ));
        }
        Ok(())
    }

    fn class(&self, id: ObjectId) -> String {
        let callable = self.tree().instance(id).map(|instance| instance.callable);
        let name: String = callable.map(|id| self.tree().key_text(id)).unwrap_or_default();
        name.chars().take(80).collect()
    }

    /// Adds what is a tensor, and puts it in its place; `false` for anything else.
    fn leaf(&mut self, path: Path, slot: Slot) -> Result<bool> {
        // A parameter keeps what is around its tensor.
        let inner = parameter(self.tree(), slot.id).unwrap_or(slot.id);
        if !matches!(self.tree()[inner], Object::Tensor(_) | Object::Instance(_)) {
            return Ok(false);
        }
        let shown = |error: Error| error.tensor(self.paths.shown(path, self.tree()));
        let spec = tensor(self.checkpoint, inner).map_err(shown)?;
        let name = || match path {
            None => Ok(self.alone.to_owned()),
            path => self.paths.name(path, self.tree(), self.limits).map_err(shown),
        };
        if let Object::Tensor(first) = self.tree()[inner] {
            let name = name()?;
            return self.another_name(&name, slot, inner, first).map(|()| true);
        }
        let Some(spec) = spec else { return Ok(false) };
        let path = &*name()?;
        let named = |error: Error| error.tensor(path.chars().take(200).collect::<String>());
        if matches!(&spec.data, Data::Inline(inline) if inline.is_scalar) {
            return Ok(false);
        }
        Limits::check("too many tensors", self.model.tensors.len() as u64 + 1, self.limits.tensors)?;
        let added = self.tensors.add(self.model, self.checkpoint, path, &spec, self.limits).map_err(named)?;
        self.model.losses.extend(moved(self.checkpoint, &spec).map(|detail| {
            let first = match &added {
                Added::One(idx) => *idx,
                Added::Parts(parts, _) => parts.first().map_or(0, |(_, idx)| *idx),
            };
            Loss::declared(LossKind::Layout, &self.model.tensors[first].name, detail)
        }));
        self.n_wanting += u64::from(spec.requires_grad && !spec.is_parameter);
        if let Some(class) = spec.class {
            let detail = format!("a tensor of class {}, taken as a plain one", self.tree().key_text(class));
            self.model.losses.push(Loss::declared(LossKind::Tree, path, detail));
        }
        match added {
            Added::One(idx) => *self.checkpoint.tree.get_mut(inner) = Object::Tensor(idx),
            Added::Parts(parts, what) => {
                self.model.losses.push(Loss::declared(LossKind::Tree, path, what));
                self.put_parts(slot, inner, parts)?;
            }
        }
        Ok(true)
    }

    /// Puts the parts of a tensor where it stood: into its dictionary under names of their own, so that they are taken
    /// or left with their neighbours; else as a dictionary.
    fn put_parts(
        &mut self,
        slot: Slot,
        inner: ObjectId,
        parts: Vec<(&'static str, TensorIdx)>,
    ) -> Result<()> {
        let holder = slot.container.filter(|id| self.tree().mapping(*id).is_some());
        let key =
            holder.and_then(|id| self.tree().members(id).into_iter().nth(slot.position)).map(|(key, _)| key);
        let mut entries = vec![];
        for (name, idx) in parts {
            let name = key.as_ref().map_or_else(|| name.to_owned(), |key| format!("{key}.{name}"));
            entries.push((self.push(Object::Text(name.into()))?, self.push(Object::Tensor(idx))?));
        }
        match (holder, self.checkpoint.tree.get_mut(holder.unwrap_or(inner))) {
            // Positions of the others must stay: the first takes the place, the rest come last.
            (Some(_), Object::Dict(all)) => replace_first(all, slot.position, entries),
            (Some(_), Object::Instance(instance)) => {
                replace_first(&mut instance.entries, slot.position, entries);
            }
            (_, object) => *object = Object::Dict(entries),
        }
        Ok(())
    }

    /// A tensor that has a name already: the two are tied.
    fn another_name(&mut self, path: &str, slot: Slot, inner: ObjectId, first: TensorIdx) -> Result<()> {
        let tensor = self.model.tensors[first].clone();
        let idx = self.model.push(path, tensor.dtype, tensor.shape, tensor.data)?;
        if tensor_is_not_empty(self.model, idx) {
            self.tensors.tie(first, idx);
        }
        let mut leaf = self.push(Object::Tensor(idx))?;
        if inner != slot.id {
            // The same parameter again, around its new tensor.
            let mut wrapper = self.tree()[slot.id].clone();
            if let Object::Instance(instance) = &mut wrapper {
                let args = self.tree().sequence(instance.args).unwrap_or_default();
                let args = std::iter::once(leaf).chain(args.iter().skip(1).copied()).collect();
                instance.args = self.push(Object::Tuple(args))?;
            }
            leaf = self.push(wrapper)?;
        }
        self.replace(slot, leaf);
        Ok(())
    }

    /// Puts another object in a member's place.
    fn replace(&mut self, slot: Slot, with: ObjectId) {
        let tree = &mut self.checkpoint.tree;
        let Some(container) = slot.container else { return tree.set_root(with) };
        let place = match tree.get_mut(container) {
            Object::Dict(entries) => entries.get_mut(slot.position).map(|(_, value)| value),
            Object::Instance(instance) => instance.entries.get_mut(slot.position).map(|(_, value)| value),
            Object::List(members) => members.get_mut(slot.position),
            Object::Tuple(members) => members.get_mut(slot.position),
            _ => None,
        };
        if let Some(place) = place {
            *place = with;
        }
    }

    /// Says how many tensors are in an object that nobody here can make.
    fn report_inside(&mut self, path: Path, id: ObjectId) -> Result<()> {
        if self.tree().instance(id).is_none() {
            return Ok(());
        }
        let (mut n, mut waiting) = (0u64, vec![id]);
        while let Some(id) = waiting.pop() {
            // Each object is looked into once, by whatever path it was met first.
            if !self.is_first_look(id) {
                continue;
            }
            match tensor(self.checkpoint, id) {
                Ok(Some(spec)) if !matches!(spec.data, Data::Inline(_)) => n += 1,
                // What is wrong in there is nothing that is read.
                _ => waiting.extend(self.tree().children(id)),
            }
        }
        if n > 0 {
            let detail =
                format!("an object of {} with {n} tensors in it, which are not taken", self.class(id));
            self.model.losses.push(Loss::declared(
                LossKind::Tree,
                self.paths.shown(path, self.tree()),
                detail,
            ));
        }
        Ok(())
    }
}

/// Puts the first of `with` in the place of an entry, and the others behind all.
fn replace_first(entries: &mut Vec<(ObjectId, ObjectId)>, position: usize, with: Vec<(ObjectId, ObjectId)>) {
    let mut with = with.into_iter();
    if let (Some(place), Some(first)) = (entries.get_mut(position), with.next()) {
        *place = first;
    }
    entries.extend(with);
}

fn tensor_is_not_empty(model: &Model, idx: TensorIdx) -> bool {
    model.tensors[idx].n_elements() > 0
}

/// The tensor that a parameter is around.
fn parameter(tree: &Tree, id: ObjectId) -> Option<ObjectId> {
    let instance = tree.instance(id)?;
    match tree.global(instance.callable)? {
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            tree.sequence(instance.args)?.first().copied()
        }
        _ => None,
    }
}
