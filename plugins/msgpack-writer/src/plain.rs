//! The document of a model that has none: its names.

use modelferry_core::model::ModelView;
use modelferry_core::tree::{Object, ObjectId, Tree};
use modelferry_core::{Error, Result};
use std::collections::HashMap;

/// Names in one dictionary; or nested in as many as they have parts between dots.
///
/// Errors: one name is that of a tensor and, with a dot behind it, the beginning of another's.
pub(crate) fn tree(view: &ModelView<'_>, is_nested: bool) -> Result<Tree> {
    let mut tree = Tree::default();
    let root = push(&mut tree, Object::Dict(vec![]))?;
    tree.set_root(root);
    // By the dictionary that it is in and its key.
    let mut known: HashMap<(ObjectId, &str), ObjectId> = HashMap::new();
    for (idx, tensor) in view.tensors().enumerate() {
        let (mut at, mut rest) = (root, tensor.name());
        let clash = || {
            Error::target("a tensor's name goes on behind that of another, which cannot be both a tensor and a dictionary")
                .tensor(tensor.name())
                .hint("leave out --dictionaries nested")
        };
        while let (true, Some((key, behind))) = (is_nested, rest.split_once('.')) {
            at = match known.get(&(at, key)) {
                Some(&inner) if matches!(tree[inner], Object::Dict(_)) => inner,
                Some(_) => return Err(clash()),
                None => {
                    let inner = add(&mut tree, at, key, Object::Dict(vec![]))?;
                    known.insert((at, key), inner);
                    inner
                }
            };
            rest = behind;
        }
        let leaf = add(&mut tree, at, rest, Object::Tensor(idx))?;
        if known.insert((at, rest), leaf).is_some() {
            return Err(clash());
        }
    }
    Ok(tree)
}

/// Adds an entry to a dictionary and gives back its value.
fn add(tree: &mut Tree, dict: ObjectId, key: &str, value: Object) -> Result<ObjectId> {
    let entry = (push(tree, Object::Text(key.into()))?, push(tree, value)?);
    if let Object::Dict(entries) = tree.get_mut(dict) {
        entries.push(entry);
    }
    Ok(entry.1)
}

fn push(tree: &mut Tree, object: Object) -> Result<ObjectId> {
    tree.push(object).ok_or_else(|| Error::limit("too many objects"))
}
