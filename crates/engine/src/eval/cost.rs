//! What is known of every node before anything is read.

use super::blocks::codec;
use modelferry_core::expr::{Arena, BlockFn, Dim, NodeId, Op, Packing, SourceAccess};
use modelferry_core::inputs::FileId;
use modelferry_core::{DType, Error, Result};

/// Depth beyond which an expression is refused: evaluation recurses once per level.
const MAX_DEPTH: u16 = 200;

/// Per node: how it may be read, and what reading costs. Made in one pass, children before parents.
pub(crate) struct Facts {
    nodes: Vec<Fact>,
}

/// What is known of one node.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fact {
    depth: u16,
    /// Consecutive items come from consecutive bytes: linear tiles are the right unit of work.
    pub(crate) linear: bool,
    /// Somewhere below is a source that can only be read in order.
    pub(crate) sequential: bool,
    /// Such a source is read out of order, or more than once: it must be staged.
    pub(crate) disordered: bool,
    /// Upper bound of scratch bytes per item, besides one capped buffer of each nested gather.
    pub(crate) scratch: u32,
    /// Upper bound of scratch bytes however few the items: whole rows under importance weights.
    pub(crate) fixed: u64,
    /// Items that are made together, at the price of all of them for one.
    pub(crate) grain: u64,
    /// Upper bound of bytes read per item; saturates.
    pub(crate) reads: u64,
}

impl Fact {
    /// At most `n_items` items, whole groups of those that are made together if one fits.
    pub(crate) fn whole(&self, n_items: u64) -> u64 {
        if n_items > self.grain { n_items - n_items % self.grain.max(1) } else { n_items }
    }
}

impl Facts {
    /// Errors: an expression nested beyond the limit, a function of blocks that no codec has.
    pub(crate) fn of(nodes: &Arena) -> Result<Facts> {
        let mut facts: Vec<Fact> = Vec::with_capacity(nodes.len());
        for (id, node) in nodes.iter() {
            let of = |id: NodeId| facts[id.idx()];
            let item = node.dtype.item_bytes();
            let mut fact = match &node.op {
                Op::Region { .. } => Fact { linear: true, reads: 1, ..Fact::default() },
                Op::Inline(_) => Fact { linear: true, ..Fact::default() },
                Op::Plugin { access, .. } => Fact {
                    linear: true,
                    sequential: *access == SourceAccess::Sequential,
                    reads: 1,
                    ..Fact::default()
                },
                // Compressed bytes are no more than the inflated ones, but for a constant.
                Op::Inflate { .. } => Fact { sequential: true, linear: true, reads: 1, ..Fact::default() },
                Op::Varints { .. } => Fact { sequential: true, linear: true, reads: 11, ..Fact::default() },
                Op::Decode { of: child, packing } => {
                    let child = of(*child);
                    let each = item as u32;
                    // Reversed and unpacked items may pass through a buffer of their own.
                    let own =
                        if *packing == Packing::default() && !node.dtype.is_sub_byte() { 0 } else { each };
                    Fact {
                        scratch: child.scratch.saturating_mul(each).saturating_add(own),
                        reads: child.reads.saturating_mul(item),
                        ..child
                    }
                }
                Op::View { of: child, dims, .. } => {
                    let plain = matches!(**dims, [] | [Dim { stride: 1, .. }]);
                    let child = of(*child);
                    Fact {
                        // Items that are all the same one are wherever they are wanted.
                        linear: child.linear && (plain || matches!(**dims, [Dim { stride: 0, .. }])),
                        disordered: child.disordered || child.sequential && !plain,
                        ..child
                    }
                }
                Op::Assemble { shape, pieces } => {
                    let stacked = pieces.iter().all(|part| part.extent.get(1..) == shape.get(1..));
                    let joined = join(pieces.iter().map(|part| of(part.node)));
                    Fact {
                        linear: joined.linear && stacked,
                        disordered: joined.disordered || joined.sequential && !stacked,
                        ..joined
                    }
                }
                Op::Gather { of: child, .. } => {
                    let child = of(*child);
                    Fact { linear: false, disordered: child.disordered || child.sequential, ..child }
                }
                Op::Map { args, .. } => {
                    let joined = join(args.ids().iter().map(|&arg| of(arg)));
                    let operands: u64 = args.ids().iter().map(|&arg| nodes[arg].dtype.item_bytes()).sum();
                    Fact {
                        scratch: joined.scratch.saturating_add(operands as u32).saturating_add(item as u32),
                        reads: args.ids().iter().fold(0, |sum, &arg| sum.saturating_add(of(arg).reads)),
                        ..joined
                    }
                }
                Op::Block { f, of: child, row, weights } => {
                    codec(*f, nodes[*child].dtype, node.dtype, weights.is_some())?;
                    let fact = of(*child);
                    let (per_item, over) = match f {
                        BlockFn::Quantize => (node.dtype.item_elements(), 1),
                        BlockFn::Dequantize => (1, nodes[*child].dtype.item_bytes()),
                        BlockFn::PruneNm { of, .. } => (1, u64::from(*of)),
                    };
                    let reads = fact.reads.saturating_mul(per_item.max(over));
                    match weights {
                        None => {
                            let each = per_item * 4 + over + item;
                            let scratch =
                                fact.scratch.saturating_mul(per_item as u32).saturating_add(each as u32);
                            Fact { scratch, reads, ..fact }
                        }
                        Some(weights) => Fact { reads, ..weighted(fact, of(*weights), *row, node.dtype) },
                    }
                }
                Op::Reduce { of: child, group, .. } => {
                    let child = of(*child);
                    Fact { scratch: 64, reads: child.reads.saturating_mul(*group), ..child }
                }
                Op::Stage { of: child } => {
                    let child = of(*child);
                    Fact { linear: true, reads: item, depth: child.depth, ..Fact::default() }
                }
            };
            let deepest = nodes.children(id).map(|child| facts[child.idx()].depth).max();
            fact.depth = deepest.map_or(0, |depth| depth + 1);
            fact.grain = match node.op {
                Op::Block { f: BlockFn::Quantize, row, weights: Some(_), .. } => {
                    row / node.dtype.item_elements()
                }
                _ => 1,
            };
            if fact.depth > MAX_DEPTH {
                return Err(Error::limit("an expression is nested too deeply")
                    .expected(MAX_DEPTH)
                    .found(fact.depth));
            }
            facts.push(fact);
        }
        Ok(Facts { nodes: facts })
    }
}

impl std::ops::Index<NodeId> for Facts {
    type Output = Fact;
    fn index(&self, id: NodeId) -> &Fact {
        &self.nodes[id.idx()]
    }
}

/// Rows of `row` elements, quantized to `dtype` one after the other under the same weights.
fn weighted(of: Fact, weights: Fact, row: u64, dtype: DType) -> Fact {
    let joined = join([of, weights].into_iter());
    // Elements and weights, what making them takes, and blocks.
    let per_element = 8 + u64::from(joined.scratch);
    let blocks = row / dtype.item_elements() * dtype.item_bytes();
    Fact {
        scratch: 0,
        fixed: row.saturating_mul(per_element).saturating_add(blocks).saturating_add(joined.fixed),
        // Weights are read for every run, and rows that two runs share twice.
        disordered: joined.disordered || joined.sequential,
        linear: of.linear,
        ..joined
    }
}

fn join(facts: impl Iterator<Item = Fact>) -> Fact {
    facts.fold(Fact { linear: true, ..Fact::default() }, |a, b| Fact {
        depth: a.depth.max(b.depth),
        linear: a.linear && b.linear,
        // Two sequential sources side by side are each read in order.
        sequential: a.sequential || b.sequential,
        disordered: a.disordered || b.disordered,
        scratch: a.scratch.max(b.scratch),
        fixed: a.fixed.max(b.fixed),
        grain: 1,
        reads: a.reads.max(b.reads),
    })
}

impl super::Evaluator<'_> {
    /// The first file range below a node, for messages.
    pub(crate) fn first_region(&self, mut id: NodeId) -> Option<(FileId, u64)> {
        loop {
            if let Op::Region { file, at } = self.source.model.nodes[id].op {
                return Some((file, at));
            }
            id = self.source.model.nodes.children(id).next()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(dtype: DType, is_weighted: bool) -> Result<Fact> {
        let mut nodes = Arena::default();
        let bytes = nodes.inline(vec![0; 1024 * 4])?;
        let floats = nodes.decode(bytes, DType::F32, 1024, Packing::default())?;
        let weights = nodes.slice(floats, 0, 512)?;
        let id = nodes.block(BlockFn::Quantize, floats, dtype, 512, is_weighted.then_some(weights))?;
        Facts::of(&nodes).map(|facts| facts[id])
    }

    #[test]
    fn what_no_codec_does_is_refused_before_anything_is_read() {
        let refused = |dtype, is_weighted| quantized(dtype, is_weighted).err().map(|error| error.to_string());
        assert_eq!(refused(DType::Q4_0, false), None);
        let text = "values cannot be quantized to this block type, found iq2_xxs";
        assert_eq!(refused(DType::Iq2Xxs, false).as_deref(), Some(text));
        let text = "importance weights mean nothing to this block type, found q8_0";
        assert_eq!(refused(DType::Q8_0, true).as_deref(), Some(text));
        assert_eq!(refused(DType::Q8_1, false).as_deref(), Some("no codec for this block type, found q8_1"));

        let mut nodes = Arena::default();
        let bytes = nodes.inline(vec![0; 36]).unwrap();
        let blocks = nodes.decode(bytes, DType::Q8_1, 1, Packing::default()).unwrap();
        nodes.block(BlockFn::Dequantize, blocks, DType::F32, 32, None).unwrap();
        let error = Facts::of(&nodes).err().unwrap();
        assert_eq!(error.kind(), modelferry_core::ErrorKind::Unsupported);
    }

    #[test]
    fn rows_under_weights_are_made_whole() {
        let of = Fact { linear: true, scratch: 3, fixed: 7, reads: 4, ..Fact::default() };
        let fact = weighted(of, Fact { sequential: true, ..Fact::default() }, 512, DType::Q4_0);
        assert_eq!((fact.scratch, fact.fixed), (0, 512 * (8 + 3) + 16 * 18 + 7));
        assert!(fact.linear && fact.sequential && fact.disordered);
        let grouped = Fact { grain: 16, ..fact };
        assert_eq!([1, 16, 17, 33, 64].map(|n| grouped.whole(n)), [1, 16, 16, 32, 64]);
    }
}
