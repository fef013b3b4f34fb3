//! The nodes of a model, and the constructors that check them.

use super::*;
use crate::dtype::Class;
use crate::error::{Error, Result};

/// The nodes of one model. Nodes refer only to earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    pub(super) nodes: Vec<Node>,
}

impl std::ops::Index<NodeId> for Arena {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.idx()]
    }
}

impl Arena {
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every node with its id, children before parents.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(idx, node)| (NodeId(idx as u32), node))
    }

    /// The direct arguments of a node, in order.
    pub fn children(&self, id: NodeId) -> impl DoubleEndedIterator<Item = NodeId> {
        type Parts<'a> = ([Option<NodeId>; 2], &'a [NodeId], &'a [Part]);
        let (single, args, pieces): Parts<'_> = match &self[id].op {
            Op::Region { .. } | Op::Inline(_) | Op::Plugin { .. } => ([None; 2], &[], &[]),
            Op::Inflate { of, .. }
            | Op::Varints { of, .. }
            | Op::Decode { of, .. }
            | Op::View { of, .. }
            | Op::Gather { of, .. }
            | Op::Reduce { of, .. }
            | Op::Stage { of } => ([Some(*of), None], &[], &[]),
            Op::Block { of, weights, .. } => ([Some(*of), *weights], &[], &[]),
            Op::Assemble { pieces, .. } => ([None; 2], &[], pieces),
            Op::Map { args, .. } => ([None; 2], args.ids(), &[]),
        };
        let pieces = pieces.iter().map(|part| part.node);
        single.into_iter().flatten().chain(args.iter().copied()).chain(pieces)
    }

    /// Makes room for as many more nodes, where their number is known.
    pub fn reserve(&mut self, n: usize) {
        self.nodes.reserve(n);
    }

    fn push(&mut self, n: u64, dtype: DType, op: Op) -> Result<NodeId> {
        if n.checked_mul(dtype.item_bytes()).is_none_or(|bytes| bytes > i64::MAX as u64) {
            return Err(
                Error::malformed("a sequence is too long").found(format_args!("{n} items of {dtype}"))
            );
        }
        let idx = u32::try_from(self.nodes.len()).map_err(|_| Error::limit("too many expression nodes"))?;
        self.nodes.push(Node { n, dtype, op });
        Ok(NodeId(idx))
    }

    /// Bytes `at .. at + len` of a file. The caller has checked them against the file's length.
    pub fn region(&mut self, file: FileId, at: u64, len: u64) -> Result<NodeId> {
        if at.checked_add(len).is_none() {
            return Err(Error::malformed("a region ends beyond 64 bits").offset(at));
        }
        self.push(len, DType::U8, Op::Region { file, at })
    }

    /// Bytes of the description itself.
    pub fn inline(&mut self, blob: impl Into<Blob>) -> Result<NodeId> {
        let blob = blob.into();
        self.push(blob.len() as u64, DType::U8, Op::Inline(blob))
    }

    /// The `len` inflated bytes of `of`.
    pub fn inflate(&mut self, of: NodeId, codec: Codec, len: u64) -> Result<NodeId> {
        self.want_bytes(of)?;
        self.push(len, DType::U8, Op::Inflate { of, codec })
    }

    /// `n` integers of type `dtype` from the varints in `of`.
    pub fn varints(
        &mut self,
        of: NodeId,
        n: u64,
        dtype: DType,
        tag: Option<u64>,
        sign: VarintSign,
    ) -> Result<NodeId> {
        self.want_bytes(of)?;
        if dtype.item_elements() != 1 || dtype.item_bytes() > 8 {
            return Err(Error::malformed("varints cannot hold this type").found(dtype));
        }
        self.push(n, dtype, Op::Varints { of, tag, sign })
    }

    /// `len` bytes made by source `source` of the model.
    pub fn plugin(&mut self, source: u32, token: u64, access: SourceAccess, len: u64) -> Result<NodeId> {
        self.push(len, DType::U8, Op::Plugin { source, token, access })
    }

    /// `n` items of `dtype` out of bytes. The bytes must be exactly as many as the packing needs.
    pub fn decode(&mut self, of: NodeId, dtype: DType, n: u64, packing: Packing) -> Result<NodeId> {
        self.want_bytes(of)?;
        let n_elements = n.checked_mul(dtype.item_elements());
        let need = n_elements.and_then(|n| dtype.packed_len(n));
        if need != Some(self[of].n) {
            return Err(Error::malformed(format!("{n} items of {dtype} do not fit their bytes"))
                .expected(format_args!("{} bytes", need.unwrap_or(u64::MAX)))
                .found(format_args!("{} bytes", self[of].n)));
        }
        if self[of].dtype == dtype {
            return Ok(of);
        }
        self.push(n, dtype, Op::Decode { of, packing })
    }

    /// A strided selection of `of`; the identity selection gives `of` back.
    pub fn view(&mut self, of: NodeId, offset: u64, dims: &[Dim]) -> Result<NodeId> {
        let mut n = 1u64;
        let (mut low, mut high) = (i128::from(offset), i128::from(offset));
        for dim in dims {
            n = n.checked_mul(dim.count).ok_or_else(|| Error::malformed("a view has too many items"))?;
            let reach = i128::from(dim.count.max(1) - 1) * i128::from(dim.stride);
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
        }
        let source_n = self[of].n;
        if n > 0 && (low < 0 || high >= i128::from(source_n)) {
            return Err(Error::malformed("a view reaches outside its source")
                .expected(format_args!("items 0 to {}", i128::from(source_n) - 1))
                .found(format_args!("items {low} to {high}")));
        }
        let dims = coalesce(dims);
        if n == source_n && offset == 0 && matches!(*dims, [] | [Dim { stride: 1, .. }]) {
            return Ok(of);
        }
        self.push(n, self[of].dtype, Op::View { of, offset: if n == 0 { 0 } else { offset }, dims })
    }

    /// Items `from .. from + n` of `of`.
    pub fn slice(&mut self, of: NodeId, from: u64, n: u64) -> Result<NodeId> {
        self.view(of, from, &[Dim { count: n, stride: 1 }])
    }

    /// `of`, whose items are in column-major (Fortran) order of `shape`, in row-major order.
    pub fn from_column_major(&mut self, of: NodeId, shape: &[u64]) -> Result<NodeId> {
        let mut dims = Vec::with_capacity(shape.len());
        let mut stride = 1i64;
        for &count in shape {
            dims.push(Dim { count, stride });
            // Cannot overflow: the product of the shape is the node's item count, which fits.
            stride = stride.saturating_mul(count.max(1) as i64);
        }
        self.view(of, 0, &dims)
    }

    /// Disjoint parts that cover a box of `shape`.
    pub fn assemble(&mut self, shape: &[u64], pieces: Vec<Part>) -> Result<NodeId> {
        let total = volume(shape).ok_or_else(|| Error::malformed("an assembled shape overflows"))?;
        let Some(first) = pieces.first() else {
            return Err(Error::malformed("an assembled tensor has no parts"));
        };
        let dtype = self[first.node].dtype;
        let mut covered = 0u128;
        for part in &pieces {
            let fits = part.lo.len() == shape.len()
                && part.extent.len() == shape.len()
                && (0..shape.len()).all(|axis| {
                    part.lo[axis].checked_add(part.extent[axis]).is_some_and(|hi| hi <= shape[axis])
                });
            if !fits {
                return Err(Error::malformed("a part lies outside the assembled tensor")
                    .expected(format_args!("within {shape:?}"))
                    .found(format_args!("{:?} at {:?}", part.extent, part.lo)));
            }
            let node = &self[part.node];
            if node.dtype != dtype || volume(&part.extent) != Some(node.n) {
                return Err(Error::malformed("a part does not hold what its place needs")
                    .expected(format_args!("{:?} of {dtype}", part.extent))
                    .found(format_args!("{} items of {}", node.n, node.dtype)));
            }
            covered += u128::from(node.n);
        }
        if covered != u128::from(total) {
            return Err(Error::malformed("parts do not cover the assembled tensor exactly")
                .expected(format_args!("{total} items"))
                .found(format_args!("{covered} items")));
        }
        if let Some((a, b)) = overlap(&pieces) {
            return Err(Error::malformed("parts of an assembled tensor overlap").found(format_args!(
                "{:?} at {:?} and {:?} at {:?}",
                pieces[a].extent, pieces[a].lo, pieces[b].extent, pieces[b].lo
            )));
        }
        self.push(total, dtype, Op::Assemble { shape: shape.into(), pieces: pieces.into() })
    }

    /// The groups of `unit` items that `index` names, in its order.
    pub fn gather(&mut self, of: NodeId, unit: u64, index: impl Into<Arc<[u64]>>) -> Result<NodeId> {
        let index = index.into();
        let source = &self[of];
        if unit == 0 || !source.n.is_multiple_of(unit) {
            return Err(Error::malformed("gathered groups do not divide their source").found(unit));
        }
        let n_groups = source.n / unit;
        if let Some(bad) = index.iter().find(|&&group| group >= n_groups) {
            return Err(Error::malformed("a gathered group does not exist")
                .expected(format_args!("below {n_groups}"))
                .found(bad));
        }
        let n =
            unit.checked_mul(index.len() as u64).ok_or_else(|| Error::malformed("a gather is too long"))?;
        self.push(n, source.dtype, Op::Gather { of, unit, index })
    }

    /// `of` cast to `dtype`; to its own type it is itself.
    pub fn cast(&mut self, of: NodeId, dtype: DType) -> Result<NodeId> {
        if self[of].dtype == dtype {
            return Ok(of);
        }
        self.map(ScalarFn::Cast, &[of], dtype)
    }

    /// `f` of sequences of equal length, giving items of `dtype`.
    pub fn map(&mut self, f: ScalarFn, args: &[NodeId], dtype: DType) -> Result<NodeId> {
        if args.len() != f.arity() {
            return Err(Error::malformed("a function has the wrong number of arguments")
                .expected(f.arity())
                .found(args.len()));
        }
        let n = self[args[0]].n;
        if let Some(other) = args.iter().find(|&&arg| self[arg].n != n) {
            return Err(Error::malformed("arguments differ in length").expected(n).found(self[*other].n));
        }
        let scalar = |dtype: DType| !matches!(dtype.class(), Class::Block | Class::Opaque);
        let typed = match f {
            ScalarFn::Cast => {
                let (from, to) = (self[args[0]].dtype.class(), dtype.class());
                scalar(dtype)
                    && scalar(self[args[0]].dtype)
                    && (from == Class::Complex) == (to == Class::Complex)
            }
            // f8_e8m0 has no sign.
            ScalarFn::Neg => {
                scalar(dtype) && !matches!(dtype, DType::Bool | DType::F8E8M0) && self[args[0]].dtype == dtype
            }
            ScalarFn::Conj => dtype.class() == Class::Complex && self[args[0]].dtype == dtype,
            ScalarFn::Add(_) | ScalarFn::Mul(_) | ScalarFn::NegExp => {
                matches!(dtype, DType::F32 | DType::F64) && self[args[0]].dtype == dtype
            }
            // The scale rules the type.
            ScalarFn::SubMul | ScalarFn::MulAdd => {
                let scale = args[if f == ScalarFn::SubMul { 2 } else { 1 }];
                let real = |id: NodeId| {
                    matches!(self[id].dtype.class(), Class::Float | Class::Signed | Class::Unsigned)
                };
                dtype.is_float() && self[scale].dtype == dtype && args.iter().all(|&arg| real(arg))
            }
        };
        if !typed {
            let found: Vec<String> = args.iter().map(|&arg| self[arg].dtype.to_string()).collect();
            return Err(Error::malformed(format!("{f:?} does not take these types"))
                .found(format_args!("{} to {dtype}", found.join(", "))));
        }
        let mut ids = [args[0]; 3];
        ids[..args.len()].copy_from_slice(args);
        self.push(n, dtype, Op::Map { f, args: Args { ids, len: args.len() as u8 } })
    }

    /// A function of blocks of `of`, a tensor with rows of `row` elements, giving items of `dtype`.
    pub fn block(
        &mut self,
        f: BlockFn,
        of: NodeId,
        dtype: DType,
        row: u64,
        weights: Option<NodeId>,
    ) -> Result<NodeId> {
        let source = &self[of];
        let (n, grain) = match f {
            BlockFn::Quantize if source.dtype == DType::F32 && dtype.class() == Class::Block => {
                (source.n / dtype.item_elements(), dtype.item_elements())
            }
            BlockFn::Dequantize if dtype == DType::F32 && source.dtype.class() == Class::Block => {
                let n = source.n.checked_mul(source.dtype.item_elements());
                (
                    n.ok_or_else(|| Error::malformed("blocks hold too many elements"))?,
                    source.dtype.item_elements(),
                )
            }
            BlockFn::PruneNm { keep, of: group }
                if dtype == source.dtype && dtype.is_float() && keep <= group =>
            {
                (source.n, u64::from(group.max(1)))
            }
            _ => {
                return Err(Error::malformed(format!("{f:?} does not take these types"))
                    .found(format_args!("{} to {dtype}", source.dtype)));
            }
        };
        let n_elements = source.n * source.dtype.item_elements();
        if row == 0 && n_elements > 0
            || row > 0 && (!row.is_multiple_of(grain) || !n_elements.is_multiple_of(row))
        {
            return Err(Error::malformed("rows do not hold whole blocks")
                .expected(format_args!("a multiple of {grain}"))
                .found(format_args!("{row} elements in a row")));
        }
        if let Some(weights) = weights.map(|id| &self[id])
            && (weights.dtype != DType::F32 || !shares_out(n_elements, row, weights.n))
        {
            return Err(Error::malformed("importance weights do not fit a row")
                .expected(format_args!("{row} items of f32, or of each matrix of a stack"))
                .found(format_args!("{} items of {}", weights.n, weights.dtype)));
        }
        self.push(n, dtype, Op::Block { f, of, row, weights })
    }

    /// One item from every `group` consecutive items of `of`.
    pub fn reduce(&mut self, f: ReduceFn, of: NodeId, group: u64) -> Result<NodeId> {
        let source = &self[of];
        if group == 0 || !source.n.is_multiple_of(group) {
            return Err(Error::malformed("reduced groups do not divide their source").found(group));
        }
        if matches!(source.dtype.class(), Class::Block | Class::Opaque | Class::Complex | Class::Bool) {
            return Err(Error::malformed("this type cannot be reduced").found(source.dtype));
        }
        if let ReduceFn::KthAbs { k } = f
            && k >= group
        {
            return Err(Error::malformed("a rank lies outside its group").expected(group).found(k));
        }
        let dtype = match f {
            ReduceFn::Sum | ReduceFn::MeanAbs => DType::F64,
            _ => source.dtype,
        };
        self.push(source.n / group, dtype, Op::Reduce { f, of, group })
    }

    /// `of`, made once per run.
    pub fn stage(&mut self, of: NodeId) -> Result<NodeId> {
        let (n, dtype) = (self[of].n, self[of].dtype);
        self.push(n, dtype, Op::Stage { of })
    }

    fn want_bytes(&self, of: NodeId) -> Result<()> {
        match self[of].dtype {
            DType::U8 => Ok(()),
            other => Err(Error::malformed("expected a sequence of bytes").expected("u8").found(other)),
        }
    }
}

/// Product of a shape; `None` on overflow. A shape with a zero has volume zero whatever else it says.
pub fn volume(shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1u64, |volume, &count| volume.checked_mul(count))
}

/// Drops axes of extent 1 and joins neighbouring axes that step through the source as one.
fn coalesce(dims: &[Dim]) -> Box<[Dim]> {
    let mut joined: Vec<Dim> = Vec::with_capacity(dims.len());
    for &dim in dims.iter().filter(|dim| dim.count != 1) {
        match joined.last_mut() {
            Some(outer)
                if dim.stride.checked_mul(i64::try_from(dim.count).unwrap_or(i64::MAX))
                    == Some(outer.stride) =>
            {
                *outer = Dim { count: outer.count.saturating_mul(dim.count), stride: dim.stride };
            }
            _ => joined.push(dim),
        }
    }
    joined.into()
}

/// Whether `n_weights` importance weights are a row's, or one row's for each of several matrices of equally many rows.
fn shares_out(n_elements: u64, row: u64, n_weights: u64) -> bool {
    match (n_elements.checked_div(row), n_weights.checked_div(row)) {
        (Some(n_rows), Some(n_matrices)) => {
            n_weights.is_multiple_of(row) && n_matrices > 0 && n_rows.is_multiple_of(n_matrices)
        }
        _ => n_weights == row,
    }
}

/// Two parts that overlap, if any do. Sweeps along the first axis, so that only parts that share a stretch of it are
/// compared.
fn overlap(pieces: &[Part]) -> Option<(usize, usize)> {
    let rank = pieces.first()?.lo.len();
    let mut order: Vec<usize> = (0..pieces.len()).filter(|&idx| !pieces[idx].extent.contains(&0)).collect();
    if rank == 0 {
        return (order.len() > 1).then(|| (order[0], order[1]));
    }
    order.sort_by(|&a, &b| pieces[a].lo.cmp(&pieces[b].lo));
    let hi = |idx: usize, axis: usize| pieces[idx].lo[axis] + pieces[idx].extent[axis];
    // The axis on which the parts differ most keeps the set of open parts small.
    let axis = (0..rank)
        .max_by_key(|&axis| {
            order.iter().map(|&idx| pieces[idx].lo[axis]).collect::<std::collections::BTreeSet<_>>().len()
        })
        .unwrap_or(0);
    order.sort_by_key(|&idx| pieces[idx].lo[axis]);
    let mut open: Vec<usize> = vec![];
    for idx in order {
        open.retain(|&other| hi(other, axis) > pieces[idx].lo[axis]);
        let clash = open.iter().find(|&&other| {
            (0..rank)
                .all(|axis| pieces[idx].lo[axis] < hi(other, axis) && pieces[other].lo[axis] < hi(idx, axis))
        });
        if let Some(&other) = clash {
            return Some((other, idx));
        }
        open.push(idx);
    }
    None
}
