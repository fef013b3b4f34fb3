//! Random expressions, by the engine and by the naive evaluator.

use super::{Log, Suite, guarded};
use crate::dag_check::{Evaluator, check_seed};
use modelferry_core::error::Result;
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::Inputs;
use modelferry_core::layout::Layout;
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::publish::Replace;
use modelferry_engine::{Part, Plan, Settings, Source, execute, read_items};
use modelferry_kernels::cpu::{Dispatch, best, set_dispatch};
use std::fs;
use std::ops::Range;

/// Bytes of buffers: as little as the engine takes, a little, and what it takes by default.
const BUDGETS: [u64; 3] = [1 << 16, 1 << 20, 32 << 20];

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    let engine = Engine { suite };
    let first = suite.options.first_seed;
    let levels: Vec<Dispatch> = Dispatch::ALL.into_iter().filter(|level| *level <= best()).collect();
    for seed in first..first + suite.options.n_seeds {
        set_dispatch(levels[seed as usize % levels.len()]);
        let compared = guarded(|| check_seed(&engine, seed, &BUDGETS)).and_then(|compared| compared);
        log.record(&format!("seed {seed}"), compared);
    }
    set_dispatch(best());
}

struct Engine<'a, 'b> {
    suite: &'a Suite<'b>,
}

/// What is spelt out here the default would ask the system for, every time.
fn settings(memory: u64) -> Settings {
    Settings { threads: 2, memory, limits: Limits::default(), sync: false }
}

/// Items that one question may ask for, in bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Evaluator for Engine<'_, '_> {
    fn items(
        &self,
        model: &Model,
        inputs: &dyn Inputs,
        node: NodeId,
        items: Range<u64>,
        memory: u64,
    ) -> Result<Vec<u8>> {
        let step = (MAX_BYTES / model.nodes[node].dtype.item_bytes()).max(1);
        let mut bytes = vec![];
        for at in items.clone().step_by(step as usize) {
            let n = step.min(items.end - at);
            bytes.extend(read_items(Source { model, inputs }, &settings(memory), node, at, n)?);
        }
        Ok(bytes)
    }

    fn execute(
        &self,
        model: &Model,
        inputs: &dyn Inputs,
        layout: &Layout,
        memory: u64,
    ) -> Result<Vec<Vec<u8>>> {
        let broken = |error| modelferry_core::Error::io("the suite's own files", error);
        let folder = self.suite.scratch.folder().map_err(broken)?;
        let mut root = None;
        for name in inputs.list("")? {
            let file = inputs.open(&name)?;
            let path = folder.path().join(&name);
            fs::write(&path, inputs.read_vec(file, 0, inputs.len(file), u64::MAX)?).map_err(broken)?;
            root = root.or(Some(path));
        }
        let disk = DiskInputs::open(self.suite.io.clone(), &root.unwrap_or_default())?;
        for name in inputs.list("")? {
            // Files are numbered as they are opened, here as there.
            disk.open(&name)?;
        }
        let settings = settings(memory);
        // The files of the layout lie beside the file that is named here.
        let output = folder.path().join("out").join("named");
        let plan = Plan {
            parts: &[Part { model, layout }],
            inputs: &disk,
            output: &output,
            is_folder: false,
            replace: Replace::Refuse,
            settings: &settings,
            control: &self.suite.control,
            io: self.suite.io.clone(),
        };
        fs::create_dir(folder.path().join("out")).map_err(broken)?;
        let outcome = execute(&plan, &mut |_| Ok(()))?;
        outcome.files.iter().map(|(path, _)| fs::read(path).map_err(broken)).collect()
    }
}
