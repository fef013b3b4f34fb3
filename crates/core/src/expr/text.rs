//! Expressions as text.

use super::{Arena, NodeId, Op};
use std::fmt::Write as _;

impl Arena {
    /// A stable text form of an expression, for tests, plans and error reports; not a file format we promise.
    /// A node used twice is written once and then named. At most `max_nodes` nodes are written.
    pub fn text(&self, root: NodeId, max_nodes: usize) -> String {
        let mut out = String::new();
        let mut order = vec![];
        let mut seen = std::collections::BTreeSet::new();
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            if order.len() == max_nodes {
                out.push_str("… ");
                break;
            }
            if seen.insert(id) {
                order.push(id);
                stack.extend(self.children(id).rev());
            }
        }
        order.sort();
        for id in order {
            let node = &self[id];
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "{}%{} = {}[{}] ",
                if out.is_empty() { "" } else { "; " },
                id.0,
                node.dtype,
                node.n
            );
            let _ = match &node.op {
                Op::Region { file, at } => write!(out, "region file{}@{at}", file.0),
                Op::Inline(_) => write!(out, "inline"),
                Op::Inflate { of, codec } => write!(out, "inflate {codec:?} %{}", of.0),
                Op::Varints { of, tag, sign } => write!(out, "varints {tag:?} {sign:?} %{}", of.0),
                Op::Plugin { source, token, .. } => write!(out, "plugin {source} token {token}"),
                Op::Decode { of, packing } => {
                    write!(out, "decode {:?}/{:?} %{}", packing.bytes, packing.bits, of.0)
                }
                Op::View { of, offset, dims } => {
                    let dims: Vec<String> =
                        dims.iter().map(|dim| format!("{}*{}", dim.count, dim.stride)).collect();
                    write!(out, "view %{}+{offset} [{}]", of.0, dims.join(" "))
                }
                Op::Assemble { shape, pieces } => {
                    let _ = write!(out, "assemble {shape:?}");
                    pieces.iter().try_for_each(|part| write!(out, " {:?}:%{}", part.lo, part.node.0))
                }
                Op::Gather { of, unit, index } => write!(out, "gather %{} {}x{unit}", of.0, index.len()),
                Op::Map { f, args } => {
                    let _ = write!(out, "{f:?}");
                    args.ids().iter().try_for_each(|arg| write!(out, " %{}", arg.0))
                }
                Op::Block { f, of, row, weights } => {
                    write!(
                        out,
                        "{f:?} %{} row {row}{}",
                        of.0,
                        if weights.is_some() { " weighted" } else { "" }
                    )
                }
                Op::Reduce { f, of, group } => write!(out, "{f:?} %{} by {group}", of.0),
                Op::Stage { of } => write!(out, "stage %{}", of.0),
            };
        }
        out
    }
}
