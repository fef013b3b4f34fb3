//! What a pickle has put aside under a number.

use modelferry_core::tree::ObjectId;
use std::collections::HashMap;

/// Numbers to objects. Picklers count up from 0, or from 1 (`cPickle`), so numbers that follow each other lie in a
/// vector; all others, of which 2^32 - 1 is as good as any, in a map.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Option<ObjectId>>,
    sparse: HashMap<u32, ObjectId>,
    len: u32,
}

impl Memo {
    pub(super) fn get(&self, idx: u32) -> Option<ObjectId> {
        match self.dense.get(idx as usize) {
            Some(Some(id)) => Some(*id),
            _ => self.sparse.get(&idx).copied(),
        }
    }

    pub(super) fn put(&mut self, idx: u32, id: ObjectId) {
        let at = idx as usize;
        if at == self.dense.len() + 1 {
            self.dense.push(None);
        }
        if at == self.dense.len() {
            self.dense.push(None);
        }
        let before = match self.dense.get_mut(at) {
            // A number may have gone to the map while the vector had not come this far.
            Some(slot) => slot.replace(id).or_else(|| self.sparse.remove(&idx)),
            None => self.sparse.insert(idx, id),
        };
        self.len += u32::from(before.is_none());
    }

    /// How many numbers are taken, which is the number that `MEMOIZE` takes.
    pub(super) fn len(&self) -> u32 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::tree::{Object, Tree};

    #[test]
    fn any_number_costs_next_to_nothing() {
        let mut tree = Tree::default();
        let ids: Vec<ObjectId> = (0..9).map(|n| tree.push(Object::Int(n)).unwrap()).collect();
        let mut memo = Memo::default();
        for (n, idx) in [u32::MAX, 1, 0, 3, 7, 4, 5, 6, 1].into_iter().enumerate() {
            memo.put(idx, ids[n]);
        }
        assert_eq!(memo.len(), 8);
        for (idx, n) in [(u32::MAX, 0), (1, 8), (0, 2), (3, 3), (7, 4), (4, 5), (5, 6), (6, 7)] {
            assert_eq!(memo.get(idx), Some(ids[n]), "{idx}");
        }
        assert_eq!(memo.get(2), None);
        memo.put(7, ids[0]);
        assert_eq!((memo.get(7), memo.len()), (Some(ids[0]), 8));
        assert!(memo.dense.capacity() <= 16);
    }
}
