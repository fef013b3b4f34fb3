//! Where an object stands in a document: the keys that lead to it, each kept once.

use modelferry_core::limits::Limits;
use modelferry_core::{Error, Result};

/// A place in [`Paths`]; `None` is the root.
pub(crate) type Path = Option<u32>;

/// Every path met so far, as a tree of keys: a document that is nested a hundred thousand deep has as many keys, and the
/// texts of its paths would fill a disk.
#[derive(Default)]
pub(crate) struct Paths {
    steps: Vec<Step>,
}

struct Step {
    above: Path,
    key: Box<str>,
    /// Bytes of the text of the whole path.
    len: usize,
}

impl Paths {
    /// The path one key further down.
    pub(crate) fn below(&mut self, above: Path, key: String) -> Result<Path> {
        let len =
            above.and_then(|idx| self.steps.get(idx as usize)).map_or(0, |step| step.len + 1) + key.len();
        let idx = u32::try_from(self.steps.len()).map_err(|_| Error::limit("too many objects"))?;
        self.steps.push(Step { above, key: key.into(), len });
        Ok(Some(idx))
    }

    /// Keys joined by dots, as a tensor's name. Errors: longer than a name may be.
    pub(crate) fn name(&self, path: Path, limits: &Limits) -> Result<String> {
        let len = path.and_then(|idx| self.steps.get(idx as usize)).map_or(0, |step| step.len);
        Limits::check("the path of a tensor is too long", len as u64, limits.name_bytes as u64)?;
        Ok(self.text(path, usize::MAX))
    }

    /// The same for a person, its end only where it is long.
    pub(crate) fn shown(&self, path: Path) -> String {
        const MOST: usize = 20;
        if path.is_none() {
            return "the checkpoint".to_owned();
        }
        self.text(path, MOST)
    }

    fn text(&self, mut path: Path, most: usize) -> String {
        let mut keys: Vec<&str> = vec![];
        while let Some(step) = path.and_then(|idx| self.steps.get(idx as usize)) {
            if keys.len() == most {
                keys.push("…");
                break;
            }
            keys.push(&step.key);
            path = step.above;
        }
        keys.reverse();
        keys.join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_by_dots_and_bounded() {
        let mut paths = Paths::default();
        let a = paths.below(None, "a".to_owned()).unwrap();
        let b = paths.below(a, "b.c".to_owned()).unwrap();
        assert_eq!(paths.name(b, &Limits::default()).unwrap(), "a.b.c");
        assert_eq!(paths.shown(None), "the checkpoint");
        let mut deep = None;
        for _ in 0..100_000 {
            deep = paths.below(deep, "0".to_owned()).unwrap();
        }
        assert_eq!(
            paths.name(deep, &Limits::default()).unwrap_err().kind(),
            modelferry_core::ErrorKind::Limit
        );
        assert_eq!(paths.shown(deep).matches('0').count(), 20);
    }
}
