//! Random expressions, evaluated twice.

use crate::dag::Dag;
use crate::layouts;
use crate::naive::Naive;
use crate::random::Random;
use modelferry_core::error::Result;
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::Inputs;
use modelferry_core::layout::Layout;
use modelferry_core::model::Model;
use std::ops::Range;

/// What is being judged: something that evaluates expressions and executes layouts within `memory` bytes.
pub trait Evaluator {
    /// Items `items` of `node`, as bytes.
    fn items(
        &self,
        model: &Model,
        inputs: &dyn Inputs,
        node: NodeId,
        items: Range<u64>,
        memory: u64,
    ) -> Result<Vec<u8>>;

    /// The files of `layout`.
    fn execute(
        &self,
        model: &Model,
        inputs: &dyn Inputs,
        layout: &Layout,
        memory: u64,
    ) -> Result<Vec<Vec<u8>>>;
}

/// What one seed compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Ranges of nodes.
    pub n_ranges: u64,
    /// Output files.
    pub n_files: u64,
    /// Bytes of both.
    pub n_bytes: u64,
}

impl std::ops::AddAssign for Compared {
    fn add_assign(&mut self, other: Compared) {
        self.n_ranges += other.n_ranges;
        self.n_files += other.n_files;
        self.n_bytes += other.n_bytes;
    }
}

/// Nodes of one model that are compared.
const ROOTS: usize = 6;

/// Ranges of a node that are compared besides the whole.
const RANGES: usize = 3;

/// Compares `evaluator` with the naive evaluator on the model of `seed`: ranges of nodes at every budget, a layout at
/// one of them.
///
/// Errors: the seed, the expression, the budget and the first difference.
pub fn check_seed(evaluator: &dyn Evaluator, seed: u64, budgets: &[u64]) -> Result<Compared, String> {
    let mut dag = Dag::random(seed);
    let mut compared = check_items(evaluator, &dag, budgets)?;
    let broken = |error| format!("seed {seed}: the layout is broken: {error}");
    let layout = layouts::random(&mut dag, seed).map_err(broken)?;
    let expected = layouts::execute(&dag.model, &dag.inputs, &layout).map_err(broken)?;
    // Files are made and removed for each layout, so one budget must do for it.
    if let Some(&memory) = budgets.get(seed as usize % budgets.len().max(1)) {
        let place = || format!("seed {seed}, a layout with {memory} bytes of memory");
        let found = evaluator.execute(&dag.model, &dag.inputs, &layout, memory);
        let found = found.map_err(|error| format!("{}: {error}", place()))?;
        if found.len() != expected.len() {
            return Err(format!("{}: {} files instead of {}", place(), found.len(), expected.len()));
        }
        for (idx, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if let Some(at) = first_difference(found, expected) {
                let text =
                    format!("{:?} {:?} {:?}", layout.digests, layout.patches, layout.files[idx].pieces);
                let text: String = text.chars().take(2000).collect();
                return Err(format!("{}: file {idx} differs at byte {at}: {text}", place()));
            }
            compared.n_files += 1;
            compared.n_bytes += found.len() as u64;
        }
    }
    Ok(compared)
}

fn check_items(evaluator: &dyn Evaluator, dag: &Dag, budgets: &[u64]) -> Result<Compared, String> {
    let mut compared = Compared::default();
    let mut naive = Naive::new(&dag.model, &dag.inputs);
    let mut random = Random::new(dag.seed ^ 0x5eed);
    // The last ones are the deepest; the others come by chance.
    let mut roots: Vec<NodeId> = dag.roots.iter().rev().take(ROOTS / 2).copied().collect();
    roots.extend((roots.len()..ROOTS.min(dag.roots.len())).map(|_| *random.pick(&dag.roots)));
    for root in roots {
        let node = &dag.model.nodes[root];
        let describe = |range: &Range<u64>, memory: u64| {
            let text = dag.model.nodes.text(root, 40);
            format!(
                "seed {}, items {range:?} of %{} with {memory} bytes of memory: {text}",
                dag.seed,
                root.idx()
            )
        };
        let items =
            naive.items(root).map_err(|error| format!("{}: {error}", describe(&(0..node.n), u64::MAX)))?;
        let mut part = |_| {
            let from = random.between(0, node.n);
            from..random.between(from, node.n)
        };
        let ranges: Vec<Range<u64>> = std::iter::once(0..node.n).chain((0..RANGES).map(&mut part)).collect();
        let width = node.dtype.item_bytes() as usize;
        for &memory in budgets {
            for range in &ranges {
                let expected = &items.bytes()[range.start as usize * width..range.end as usize * width];
                let found = evaluator.items(&dag.model, &dag.inputs, root, range.clone(), memory);
                let found = found.map_err(|error| format!("{error}: {}", describe(range, memory)))?;
                if let Some(difference) = dag.difference(root, &found, expected) {
                    return Err(format!("{difference}: {}", describe(range, memory)));
                }
                compared.n_ranges += 1;
                compared.n_bytes += found.len() as u64;
            }
        }
    }
    Ok(compared)
}

fn first_difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    differs.or((found.len() != expected.len()).then_some(found.len().min(expected.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The naive evaluator, with one byte of what it makes flipped now and then.
    struct Liar {
        one_in: u64,
    }

    impl Liar {
        fn spoil(&self, seed: u64, bytes: &mut [u8]) {
            if !bytes.is_empty() && seed.is_multiple_of(self.one_in) {
                bytes[seed as usize % bytes.len()] ^= 0x10;
            }
        }
    }

    impl Evaluator for Liar {
        fn items(
            &self,
            model: &Model,
            inputs: &dyn Inputs,
            node: NodeId,
            items: Range<u64>,
            _: u64,
        ) -> Result<Vec<u8>> {
            let all = crate::naive::evaluate(model, inputs, node)?;
            let width = model.nodes[node].dtype.item_bytes();
            let mut bytes = all[(items.start * width) as usize..(items.end * width) as usize].to_vec();
            self.spoil(items.end, &mut bytes);
            Ok(bytes)
        }

        fn execute(
            &self,
            model: &Model,
            inputs: &dyn Inputs,
            layout: &Layout,
            _: u64,
        ) -> Result<Vec<Vec<u8>>> {
            let mut files = layouts::execute(model, inputs, layout)?;
            files.iter_mut().for_each(|file| self.spoil(file.len() as u64, file));
            Ok(files)
        }
    }

    #[test]
    fn the_truth_passes_and_a_lie_is_found() {
        let caught =
            |one_in| (0..40).filter(|&seed| check_seed(&Liar { one_in }, seed, &[1 << 20]).is_err()).count();
        assert_eq!(caught(u64::MAX), 0);
        assert_eq!(caught(1), 40);
        assert!(caught(20) > 10);
    }
}
