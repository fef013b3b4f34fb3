//! The nodes of one model among those of another.

use super::*;
use crate::error::{Error, Result};

/// Where nodes went that another arena took over.
#[derive(Clone, Copy, Debug)]
pub struct Moved(u32);

impl Moved {
    /// What a node is called now.
    pub fn id(self, old: NodeId) -> NodeId {
        // The last of them fits, which `append` has proved.
        NodeId(self.0.saturating_add(old.0))
    }
}

impl Arena {
    /// Takes over every node of `other`, whose files are numbered from `files` on here and whose plugin sources from
    /// `sources` on.
    ///
    /// Errors: [`Limit`](crate::error::ErrorKind::Limit) for more nodes, files or sources than can be numbered.
    pub fn append(&mut self, other: Arena, files: u32, sources: u32) -> Result<Moved> {
        let too_many = || Error::limit("two models together have too many expression nodes");
        let first = u32::try_from(self.nodes.len()).map_err(|_| too_many())?;
        let n_more = u32::try_from(other.nodes.len()).map_err(|_| too_many())?;
        first.checked_add(n_more).ok_or_else(too_many)?;
        let moved = Moved(first);
        self.nodes.reserve_exact(other.nodes.len());
        for mut node in other.nodes {
            match &mut node.op {
                Op::Inline(_) => {}
                Op::Region { file, .. } => {
                    file.0 = file.0.checked_add(files).ok_or_else(too_many)?;
                }
                Op::Plugin { source, .. } => {
                    *source = source.checked_add(sources).ok_or_else(too_many)?;
                }
                Op::Inflate { of, .. }
                | Op::Varints { of, .. }
                | Op::Decode { of, .. }
                | Op::View { of, .. }
                | Op::Gather { of, .. }
                | Op::Reduce { of, .. }
                | Op::Stage { of } => *of = moved.id(*of),
                Op::Block { of, weights, .. } => {
                    *of = moved.id(*of);
                    *weights = weights.map(|id| moved.id(id));
                }
                Op::Assemble { pieces, .. } => {
                    pieces.iter_mut().for_each(|part| part.node = moved.id(part.node));
                }
                Op::Map { args, .. } => args.ids.iter_mut().for_each(|id| *id = moved.id(*id)),
            }
            self.nodes.push(node);
        }
        Ok(moved)
    }

    /// `of`, a tensor of `shape`, with its axes in another order: axis `k` of it becomes axis `axes[k]`. Without any,
    /// it is itself.
    ///
    /// Errors: `axes` is no order of the axes of `shape`; items of several elements, which cannot be taken apart.
    pub fn transpose(&mut self, of: NodeId, shape: &[u64], axes: &[u8]) -> Result<NodeId> {
        if axes.is_empty() {
            return Ok(of);
        }
        if self[of].dtype.item_elements() != 1 {
            return Err(
                Error::malformed("the axes of a tensor of blocks cannot change places").found(self[of].dtype)
            );
        }
        let mut dims: Vec<Option<Dim>> = vec![None; shape.len()];
        let mut stride = 1i64;
        for (k, &count) in shape.iter().enumerate().rev() {
            let place = axes.get(k).and_then(|&axis| dims.get_mut(usize::from(axis)));
            match place {
                Some(place) if place.is_none() && axes.len() == shape.len() => {
                    *place = Some(Dim { count, stride });
                }
                _ => {
                    let error = Error::malformed("an order of axes does not fit the tensor");
                    return Err(error
                        .expected(format_args!("an order of {} axes", shape.len()))
                        .found(format_args!("{axes:?}")));
                }
            }
            // The product of the shape is the node's item count, which fits, unless there are no items.
            stride = stride.saturating_mul(i64::try_from(count.max(1)).unwrap_or(i64::MAX));
        }
        let dims: Vec<Dim> = dims.into_iter().flatten().collect();
        self.view(of, 0, &dims)
    }
}
