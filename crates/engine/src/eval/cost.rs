//! What is known of every node before anything is read.

use modelferry_core::expr::{Arena, BlockFn, Dim, NodeId, Op, Packing, SourceAccess};
use modelferry_core::inputs::FileId;
use modelferry_core::{Error, Result};

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
    /// Upper bound of bytes read per item; saturates.
    pub(crate) reads: u64,
}

impl Facts {
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
                        linear: child.linear && plain,
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
                Op::Block { f: BlockFn::Quantize, of: child, weights: Some(_), .. } => {
                    // Whole rows are made, whatever is wanted of them.
                    let fact = of(*child);
                    Fact { linear: true, scratch: fact.scratch.saturating_add(8), ..fact }
                }
                Op::Block { f, of: child, .. } => {
                    let fact = of(*child);
                    let (per_item, over) = match f {
                        BlockFn::Quantize => (node.dtype.item_elements(), 1),
                        BlockFn::Dequantize => (1, nodes[*child].dtype.item_bytes()),
                        BlockFn::PruneNm { of, .. } => (1, u64::from(*of)),
                    };
                    let each = per_item * 4 + over + item;
                    Fact {
                        scratch: fact.scratch.saturating_mul(per_item as u32).saturating_add(each as u32),
                        reads: fact.reads.saturating_mul(per_item.max(over)),
                        ..fact
                    }
                }
                Op::Reduce { of: child, group, .. } => {
                    let child = of(*child);
                    Fact { scratch: 64, reads: child.reads.saturating_mul(*group), ..child }
                }
                Op::Stage { of: child } => {
                    let child = of(*child);
                    Fact {
                        linear: true,
                        sequential: false,
                        disordered: false,
                        scratch: 0,
                        reads: item,
                        depth: child.depth,
                    }
                }
            };
            let deepest = nodes.children(id).into_iter().map(|child| facts[child.idx()].depth).max();
            fact.depth = deepest.map_or(0, |depth| depth + 1);
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

fn join(facts: impl Iterator<Item = Fact>) -> Fact {
    facts.fold(Fact { linear: true, ..Fact::default() }, |a, b| Fact {
        depth: a.depth.max(b.depth),
        linear: a.linear && b.linear,
        // Two sequential sources side by side are each read in order.
        sequential: a.sequential || b.sequential,
        disordered: a.disordered || b.disordered,
        scratch: a.scratch.max(b.scratch),
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
            id = self.source.model.nodes.children(id).first().copied()?;
        }
    }
}
