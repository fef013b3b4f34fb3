//! Names of tensors: where they stand.

use modelferry_core::Result;
use modelferry_core::limits::Limits;
use modelferry_core::tree::{ObjectId, Tree};

/// The name of each of `n` tensors, by its position. `alone` is that of one that is the whole document.
///
/// Errors: names longer than the limit, or together longer than a header.
pub(crate) fn of(tree: &Tree, n: usize, alone: &str, limits: &Limits) -> Result<Vec<String>> {
    let mut names = vec![String::new(); n];
    let Some(root) = tree.root() else { return Ok(names) };
    if let (Some(idx), Some(name)) = (tree.tensor(root), names.first_mut()) {
        debug_assert_eq!(idx, 0);
        alone.clone_into(name);
        return Ok(names);
    }
    // One path for all: each level knows how much of it leads there. A document is as deep as its limit.
    let mut path = String::new();
    let mut n_bytes = 0;
    let mut levels = vec![Level::new(tree, root, 0)];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_len);
        let is_root = level.is_root;
        let Some((key, id)) = level.members.next() else {
            levels.pop();
            continue;
        };
        if !is_root {
            path.push('.');
        }
        path.push_str(&key);
        match tree.tensor(id) {
            Some(idx) => {
                let too_long = "the path of a tensor is too long";
                Limits::check(too_long, path.len() as u64, limits.name_bytes as u64)?;
                n_bytes += path.len() as u64;
                Limits::check("paths of tensors are too long together", n_bytes, limits.header_bytes)?;
                if let Some(name) = names.get_mut(idx) {
                    name.clone_from(&path);
                }
            }
            None => levels.push(Level { is_root: false, ..Level::new(tree, id, path.len()) }),
        }
    }
    Ok(names)
}

/// A container on the way.
struct Level {
    members: std::vec::IntoIter<(String, ObjectId)>,
    path_len: usize,
    is_root: bool,
}

impl Level {
    fn new(tree: &Tree, id: ObjectId, path_len: usize) -> Level {
        Level { members: tree.members(id).into_iter(), path_len, is_root: true }
    }
}
