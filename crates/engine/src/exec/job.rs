//! One part of a run: its layout, its evaluator, its place in the output.

use super::digests::Crcs;
use super::write::WriteBehind;
use super::{Part, Plan};
use crate::control::Settings;
use crate::eval::{Cx, Evaluator, Seen};
use crate::io::File;
use crate::publish::Staging;
use modelferry_core::Result;
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::{DigestAlgo, Layout, PatchForm};
use modelferry_core::model::{Model, TensorIdx};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// One part of a run under way: what its threads share.
pub(super) struct Job<'a> {
    pub(super) plan: &'a Plan<'a>,
    settings: &'a Settings,
    part: Part<'a>,
    pub(super) evaluator: Evaluator<'a>,
    staging: &'a Staging,
    /// Where the part's first file stands among those of all parts.
    first_file: usize,
    staged: HashSet<NodeId>,
    pub(super) sparse: bool,
    shares_blocks: bool,
    pub(super) crcs: Crcs,
    pub(super) seen: Mutex<BTreeMap<TensorIdx, Seen>>,
    pub(super) behind: WriteBehind,
    /// Pieces, by file and position, that are made together with those of other parts.
    pub(super) shared: HashSet<(usize, usize)>,
}

/// What the parts of a run have in common.
pub(super) struct Common<'a> {
    pub(super) plan: &'a Plan<'a>,
    /// What is left to each of the things a run has always had, if it has several parts.
    pub(super) settings: &'a Settings,
    pub(super) staging: &'a Staging,
    pub(super) sparse: bool,
    /// Bytes of all files of all parts.
    pub(super) total: u64,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        common: &Common<'a>,
        part: Part<'a>,
        first_file: usize,
        evaluator: Evaluator<'a>,
        stages: Vec<NodeId>,
    ) -> Job<'a> {
        let &Common { plan, settings, staging, sparse, total } = common;
        let shares_blocks = staging.file(0).is_ok_and(|file| plan.io.shares_blocks(&file));
        Job {
            plan,
            settings,
            part,
            evaluator,
            staging,
            first_file,
            staged: stages.into_iter().collect(),
            sparse,
            shares_blocks,
            crcs: Crcs::of(part.layout),
            seen: Mutex::default(),
            behind: WriteBehind::new(plan, total),
            shared: HashSet::new(),
        }
    }

    pub(super) fn model(&self) -> &'a Model {
        self.part.model
    }

    pub(super) fn layout(&self) -> &'a Layout {
        self.part.layout
    }

    pub(super) fn settings(&self) -> &'a Settings {
        self.settings
    }

    pub(super) fn file(&self, idx: usize) -> Result<Arc<File>> {
        self.staging.file(self.first_file + idx)
    }

    /// Where a tensor's bytes lie untouched, unless reading them is also a check of what the source says of them.
    pub(super) fn verbatim(&self, idx: TensorIdx) -> Option<(FileId, u64)> {
        if self.model().claims.is_empty() { self.model().verbatim(idx) } else { None }
    }

    /// Whether the kernel may copy these output bytes without our seeing them.
    pub(super) fn may_copy(&self, file: usize, bytes: Range<u64>) -> bool {
        self.shares_blocks && !self.sparse && !self.crcs.touch(file, &bytes)
    }

    /// Whether every sequential source below a node has been staged.
    pub(super) fn is_staged_below(&self, id: NodeId) -> bool {
        let nodes = &self.model().nodes;
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if self.staged.contains(&id) || !self.evaluator.facts[id].sequential {
                continue;
            }
            // A sequential node whose sources are not is the stream itself.
            if !nodes.children(id).any(|child| self.evaluator.facts[child].sequential) {
                return false;
            }
            stack.extend(nodes.children(id));
        }
        true
    }

    pub(super) fn nodes_below(&self, roots: impl Iterator<Item = NodeId>) -> Vec<bool> {
        let nodes = &self.model().nodes;
        let mut below = vec![false; nodes.len()];
        let mut stack: Vec<NodeId> = roots.collect();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut below[id.idx()], true) {
                stack.extend(nodes.children(id));
            }
        }
        below
    }

    /// Completes checksums and fills their holes; those over other holes are made after these are filled, and those
    /// that fill none at the end. Returns the bytes of all.
    pub(super) fn finish_digests(&self, cx: &mut Cx) -> Result<Vec<Vec<u8>>> {
        let digests = &self.layout().digests;
        let mut fills_hole = vec![false; digests.len()];
        self.layout().patches.iter().for_each(|patch| fills_hole[patch.digest] = true);
        let mut values: Vec<Vec<u8>> = vec![vec![]; digests.len()];
        self.take_digests(DigestAlgo::Crc32, &mut values, &|idx| fills_hole[idx], cx)?;
        self.patch(&values, DigestAlgo::Crc32)?;
        self.take_digests(DigestAlgo::Sha256, &mut values, &|idx| fills_hole[idx], cx)?;
        self.patch(&values, DigestAlgo::Sha256)?;
        for algo in [DigestAlgo::Crc32, DigestAlgo::Sha256] {
            self.take_digests(algo, &mut values, &|idx| !fills_hole[idx], cx)?;
        }
        Ok(values)
    }

    fn take_digests(
        &self,
        algo: DigestAlgo,
        values: &mut [Vec<u8>],
        wanted: &dyn Fn(usize) -> bool,
        cx: &mut Cx,
    ) -> Result<()> {
        if algo == DigestAlgo::Crc32 {
            for (idx, crc) in self.crcs.values().filter(|(idx, _)| wanted(*idx)) {
                values[idx] = crc.to_le_bytes().to_vec();
            }
            return Ok(());
        }
        for (idx, digest) in self.layout().digests.iter().enumerate() {
            if digest.algo == algo && wanted(idx) {
                values[idx] = self.sha256(digest.over.file, digest.over.bytes.clone(), cx)?;
            }
        }
        Ok(())
    }

    fn patch(&self, values: &[Vec<u8>], algo: DigestAlgo) -> Result<()> {
        for patch in &self.layout().patches {
            if self.layout().digests[patch.digest].algo != algo {
                continue;
            }
            let value = &values[patch.digest];
            let bytes = match patch.form {
                PatchForm::Raw => value.clone(),
                PatchForm::Hex => {
                    value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
                }
            };
            // The zeros that stood there have added nothing to the checksums over them.
            self.crcs.wrote(patch.file, patch.at, &bytes);
            self.write(patch.file, patch.at, &bytes)?;
        }
        Ok(())
    }
}
