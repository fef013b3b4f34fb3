//! Where an object stands in a document: the keys that lead to it, each kept once.

use modelferry_core::limits::Limits;
use modelferry_core::tree::{ObjectId, Tree};
use modelferry_core::{Error, Result};

/// A place in [`Paths`]; `None` is the root.
pub(crate) type Path = Option<u32>;

/// Every path met so far, as a tree of keys: a document that is nested a hundred thousand deep has as many keys, and the
/// texts of its paths would fill a disk. Texts are made when they are asked for, of the few paths that lead to tensors.
#[derive(Default)]
pub(crate) struct Paths {
    steps: Vec<Step>,
}

struct Step {
    above: Path,
    key: Key,
}

/// A key of a dictionary, or a place in a list.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    Of(ObjectId),
    At(usize),
}

impl Key {
    fn text(self, tree: &Tree) -> String {
        match self {
            Key::Of(id) => tree.key_text(id),
            Key::At(position) => position.to_string(),
        }
    }
}

impl Paths {
    /// The path one key further down.
    pub(crate) fn below(&mut self, above: Path, key: Key) -> Result<Path> {
        let idx = u32::try_from(self.steps.len()).map_err(|_| Error::limit("too many objects"))?;
        self.steps.push(Step { above, key });
        Ok(Some(idx))
    }

    /// The keys of a path, from its end to the root.
    fn keys(&self, path: Path, tree: &Tree) -> impl Iterator<Item = String> {
        let step = |path: Path| path.and_then(|idx| self.steps.get(idx as usize));
        std::iter::successors(step(path), move |last| step(last.above)).map(|step| step.key.text(tree))
    }

    /// Keys joined by dots, as a tensor's name. Errors: longer than a name may be.
    pub(crate) fn name(&self, path: Path, tree: &Tree, limits: &Limits) -> Result<String> {
        let (mut keys, mut len) = (vec![], 0);
        for key in self.keys(path, tree) {
            len += key.len() + usize::from(!keys.is_empty());
            // Before the next one is looked at: there may be very many.
            Limits::check("the path of a tensor is too long", len as u64, limits.name_bytes as u64)?;
            keys.push(key);
        }
        Ok(joined(keys))
    }

    /// The same for a person, its end only where it is long.
    pub(crate) fn shown(&self, path: Path, tree: &Tree) -> String {
        const MOST: usize = 20;
        if path.is_none() {
            return "the checkpoint".to_owned();
        }
        let mut keys: Vec<String> = self.keys(path, tree).take(MOST + 1).collect();
        if let Some(first) = keys.get_mut(MOST) {
            "…".clone_into(first);
        }
        joined(keys)
    }
}

fn joined(mut keys: Vec<String>) -> String {
    keys.reverse();
    keys.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::tree::Object;

    #[test]
    fn paths_are_joined_by_dots_and_bounded() {
        let mut tree = Tree::default();
        let mut key = |text: &str| Key::Of(tree.push(Object::Text(text.into())).unwrap());
        let keys = [key("a"), key("b.c")];
        let mut paths = Paths::default();
        let a = paths.below(None, keys[0]).unwrap();
        let b = paths.below(a, keys[1]).unwrap();
        assert_eq!(paths.name(b, &tree, &Limits::default()).unwrap(), "a.b.c");
        let c = paths.below(b, Key::At(7)).unwrap();
        assert_eq!(paths.name(c, &tree, &Limits::default()).unwrap(), "a.b.c.7");
        let mut limits = Limits::default();
        limits.name_bytes = 6;
        assert_eq!(paths.name(c, &tree, &limits).unwrap_err().kind(), modelferry_core::ErrorKind::Limit);
        assert_eq!(paths.shown(None, &tree), "the checkpoint");
        assert_eq!(paths.shown(c, &tree), "a.b.c.7");
        let mut deep = None;
        for _ in 0..100_000 {
            deep = paths.below(deep, Key::At(0)).unwrap();
        }
        assert_eq!(
            paths.name(deep, &tree, &Limits::default()).unwrap_err().kind(),
            modelferry_core::ErrorKind::Limit
        );
        assert_eq!(paths.shown(deep, &tree), format!("…{}", ".0".repeat(20)));
    }
}
