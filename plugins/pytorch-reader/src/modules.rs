//! Objects that hold tensors in ways of their own, made into the dictionaries that they would give.

use modelferry_core::limits::Limits;
use modelferry_core::tree::{Object, ObjectId, Tree};
use modelferry_core::{Error, Result};

/// What an object is that is no dictionary itself, and can be taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A `torch.nn.Module`, saved whole: its `state_dict()`.
    Module,
    /// A class of TorchScript: its attributes that are tensors or such classes.
    Script,
    /// An object of a class that is a dictionary: its entries.
    Entries,
    /// An object of a class that is a list: its items.
    Items,
    /// An `OrderedDict` as Python 2 and protocols before 2 wrote it: made of a list of pairs.
    Pairs,
}

/// How an object can be taken for a dictionary or list.
pub(crate) fn kind(tree: &Tree, id: ObjectId) -> Option<Taken> {
    let instance = tree.instance(id)?;
    if let Some(entries) = tree.mapping(id) {
        return (entries.is_empty() && pairs(tree, id).is_some()).then_some(Taken::Pairs);
    }
    if is_script(tree, id) {
        return Some(Taken::Script);
    }
    if attribute(tree, id, "_parameters").is_some() && attribute(tree, id, "_modules").is_some() {
        return Some(Taken::Module);
    }
    match () {
        () if !instance.entries.is_empty() => Some(Taken::Entries),
        () if !instance.items.is_empty() => Some(Taken::Items),
        () => None,
    }
}

/// The entries of an object that is taken for a dictionary, or the items of one that is taken for a list.
pub(crate) fn members(tree: &mut Tree, id: ObjectId, taken: Taken, limits: &Limits) -> Result<Object> {
    let entries = match taken {
        Taken::Module | Taken::Script => return flatten(tree, id, taken, limits),
        Taken::Pairs => pairs(tree, id).unwrap_or_default(),
        Taken::Entries => tree.instance(id).map(|instance| instance.entries.clone()).unwrap_or_default(),
        Taken::Items => {
            return Ok(Object::List(
                tree.instance(id).map(|instance| instance.items.clone()).unwrap_or_default(),
            ));
        }
    };
    Ok(Object::Dict(entries))
}

/// `[[key, value], …]` as the only argument.
fn pairs(tree: &Tree, id: ObjectId) -> Option<Vec<(ObjectId, ObjectId)>> {
    let &[list] = tree.sequence(tree.instance(id)?.args)? else { return None };
    let pair = |&pair: &ObjectId| match tree.sequence(pair)? {
        &[key, value] => Some((key, value)),
        _ => None,
    };
    tree.sequence(list)?.iter().map(pair).collect()
}

/// The attributes of an object: its last state, which may be a pair of them and of slots.
fn attributes(tree: &Tree, id: ObjectId) -> Option<&[(ObjectId, ObjectId)]> {
    let &state = tree.instance(id)?.states.last()?;
    match tree.sequence(state) {
        Some(&[attributes, _slots]) => tree.mapping(attributes),
        _ => tree.mapping(state),
    }
}

fn attribute(tree: &Tree, id: ObjectId, name: &str) -> Option<ObjectId> {
    let found = attributes(tree, id)?.iter().rev().find(|(key, _)| tree.text(*key) == Some(name))?;
    Some(found.1)
}

fn is_script(tree: &Tree, id: ObjectId) -> bool {
    let of_class =
        |callable| tree.global(callable).is_some_and(|(module, _)| module.starts_with("__torch__"));
    tree.instance(id).is_some_and(|instance| {
        // `copyreg.__newobj__` is what some protocols call with the class.
        of_class(instance.callable)
            || tree.sequence(instance.args).and_then(|args| args.first()).is_some_and(|&id| of_class(id))
    })
}

/// The dictionary from dotted names to tensors that `state_dict()` gives: of each module its parameters, then its
/// buffers, then its modules.
fn flatten(tree: &mut Tree, root: ObjectId, taken: Taken, limits: &Limits) -> Result<Object> {
    let mut flat = vec![];
    let mut waiting = vec![(String::new(), root, 0usize)];
    while let Some((prefix, id, depth)) = waiting.pop() {
        if depth > limits.depth {
            return Err(Error::limit("modules are nested too deep")
                .expected(format_args!("at most {}", limits.depth)));
        }
        let (values, modules) = match taken {
            Taken::Script => script_parts(tree, id),
            _ => module_parts(tree, id),
        };
        for (name, value) in values {
            let key = format!("{prefix}{name}");
            let key = tree.push(Object::Text(key.into())).ok_or_else(|| Error::limit("too many objects"))?;
            flat.push((key, value));
        }
        Limits::check("too many objects", (flat.len() + tree.len()) as u64, limits.objects)?;
        let below = modules.into_iter().rev();
        waiting.extend(below.map(|(name, module)| (format!("{prefix}{name}."), module, depth + 1)));
    }
    Ok(Object::Dict(flat))
}

type Named = Vec<(String, ObjectId)>;

/// The tensors of a module itself, and the modules in it.
fn module_parts(tree: &Tree, id: ObjectId) -> (Named, Named) {
    let part = |name: &str| -> Named {
        let found = attribute(tree, id, name).map(|part| members_of(tree, part)).unwrap_or_default();
        // `None` stands for a parameter that a module could have and has not.
        found.into_iter().filter(|(_, value)| tree[*value] != Object::None).collect()
    };
    let transient =
        attribute(tree, id, "_non_persistent_buffers_set").map(|set| texts(tree, set)).unwrap_or_default();
    let mut values = part("_parameters");
    values.extend(part("_buffers").into_iter().filter(|(name, _)| !transient.contains(name)));
    (values, part("_modules"))
}

/// The entries of a dictionary of a module's, which may be an `OrderedDict` of pairs.
fn members_of(tree: &Tree, id: ObjectId) -> Named {
    match pairs(tree, id) {
        Some(pairs) if tree.members(id).is_empty() => {
            pairs.into_iter().map(|(key, value)| (tree.key_text(key), value)).collect()
        }
        _ => tree.members(id),
    }
}

/// The members of a set, which protocols before 4 make of a list.
fn texts(tree: &Tree, id: ObjectId) -> Vec<String> {
    let members = match &tree[id] {
        Object::Set(members) => members,
        Object::Instance(set) => {
            let list = tree.sequence(set.args).and_then(|args| args.first());
            list.and_then(|&list| tree.sequence(list)).unwrap_or_default()
        }
        _ => &[],
    };
    members.iter().map(|&member| tree.key_text(member)).collect()
}

/// The attributes of an object of TorchScript that are objects of TorchScript, and the others.
fn script_parts(tree: &Tree, id: ObjectId) -> (Named, Named) {
    let attributes = attributes(tree, id).unwrap_or_default();
    // Numbers and texts among them are of the program, not of the model.
    let named = attributes.iter().filter(|(_, value)| tree.instance(*value).is_some());
    let named = named.map(|&(key, value)| (tree.key_text(key), value));
    let (modules, values): (Named, Named) = named.partition(|(_, value)| is_script(tree, *value));
    (values, modules)
}
