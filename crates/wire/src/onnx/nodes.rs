//! Graphs, nodes and attributes: where tensors stand in them.

use super::coded::{Coded, Uses};
use super::document::{Found, Summary};
use super::fields::{Fields, Wire, count_varints, put_varint, tag};
use super::file::{Field, Source};
use super::names::Names;
use super::tensor::{Payload, Place, Scanned, Values, check_pieces, of_attribute, scan};
use super::{attribute, graph, node, sparse};
use modelferry_core::dtype::DType;
use modelferry_core::limits::Limits;
use modelferry_core::{Error, Result};
use std::collections::HashSet;

/// Position of a scope: a graph or function with names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope(usize);

impl Scope {
    pub(super) fn position(self) -> usize {
        self.0
    }
}

/// A tensor whose name is not settled yet.
struct Pending {
    scope: Scope,
    /// Its name in its graph.
    local: String,
    found: Found,
}

/// The way through a document.
pub(super) struct Walk<'a> {
    pub(super) source: Source<'a>,
    pub(super) limits: &'a Limits,
    pub(super) summary: Summary,
    pub(super) metadata_keys: HashSet<String>,
    /// The way to each scope, for names that are taken.
    scopes: Vec<String>,
    /// The scope that each is in.
    around: Vec<Option<usize>>,
    pub(super) uses: Uses,
    pending: Vec<Pending>,
    /// Sparse tensors by scope, whose parts have names made of theirs.
    sparse: Vec<(Scope, String)>,
    depth: usize,
    n_fields: u64,
    n_bytes: u64,
}

impl<'a> Walk<'a> {
    /// The main graph.
    pub(super) const ROOT: Scope = Scope(0);

    pub(super) fn new(source: Source<'a>, limits: &'a Limits) -> Walk<'a> {
        Walk {
            source,
            limits,
            summary: Summary::default(),
            metadata_keys: HashSet::new(),
            scopes: vec![String::new()],
            around: vec![None],
            uses: Uses::default(),
            pending: vec![],
            sparse: vec![],
            depth: 0,
            n_fields: 0,
            n_bytes: 0,
        }
    }

    /// The next field of the message that ends at `end`, counted.
    pub(super) fn next(&mut self, at: &mut u64, end: u64) -> Result<Option<Field>> {
        self.n_fields += 1;
        Limits::check("a document has too many fields", self.n_fields, self.limits.objects)?;
        self.source.field(at, end)
    }

    /// All fields of a message.
    pub(super) fn list(&mut self, message: &Field) -> Result<Vec<Field>> {
        let (mut at, mut fields) = (message.at, vec![]);
        while let Some(field) = self.next(&mut at, message.end)? {
            fields.push(field);
        }
        Ok(fields)
    }

    /// Takes note of bytes that are kept.
    pub(super) fn count_bytes(&mut self, field: &Field) -> Result<()> {
        self.n_bytes = self.n_bytes.saturating_add(field.end - field.begin);
        Limits::check("the document is too long", self.n_bytes, self.limits.header_bytes)
    }

    /// Appends a field as it is.
    pub(super) fn copy(&mut self, field: &Field, out: &mut Vec<u8>) -> Result<()> {
        self.count_bytes(field)?;
        self.source.append(field.begin, field.end, out)
    }

    /// The last text of this number; empty without one.
    pub(super) fn text_of(&mut self, fields: &[Field], number: u32) -> Result<String> {
        let is_it = |field: &&Field| (field.number, field.wire) == (number, Wire::Bytes);
        match fields.iter().rev().find(is_it) {
            Some(field) => self.text(field),
            None => Ok(String::new()),
        }
    }

    pub(super) fn text(&mut self, field: &Field) -> Result<String> {
        Limits::check("a name is too long", field.len(), self.limits.name_bytes as u64)
            .map_err(|error| error.offset(field.begin))?;
        let mut bytes = vec![];
        self.source.append(field.at, field.end, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| Error::malformed("a name is not UTF-8").offset(field.begin))
    }

    /// A new scope, by the way to it, and the one that it is in.
    pub(super) fn scope(&mut self, way: String, around: Option<Scope>) -> Scope {
        self.scopes.push(way);
        self.around.push(around.map(Scope::position));
        Scope(self.scopes.len() - 1)
    }

    /// How many tensors have been found.
    pub(super) fn n_found(&self) -> usize {
        self.pending.len()
    }

    /// Appends a field that holds `message`, in which the tensors from `first` on have their places.
    pub(super) fn nest(&mut self, out: &mut Vec<u8>, number: u32, message: &[u8], first: usize) {
        put_varint(out, tag(number, Wire::Bytes));
        put_varint(out, message.len() as u64);
        let shift = out.len() as u64;
        self.pending[first..].iter_mut().for_each(|pending| pending.found.at += shift);
        out.extend_from_slice(message);
    }

    /// A `GraphProto`.
    pub(super) fn graph(&mut self, message: &Field, scope: Scope, is_main: bool) -> Result<Vec<u8>> {
        self.depth += 1;
        Limits::check("graphs are nested too deeply", self.depth as u64, self.limits.depth as u64)
            .map_err(|error| error.offset(message.begin))?;
        let (mut at, mut out) = (message.at, vec![]);
        while let Some(field) = self.next(&mut at, message.end)? {
            let first = self.pending.len();
            let inside = match field.number {
                graph::NODE | graph::INITIALIZER | graph::SPARSE_INITIALIZER if field.wire != Wire::Bytes => {
                    return Err(Error::malformed("a part of a graph that is no message").offset(field.begin));
                }
                graph::NODE => self.node(&field, scope)?,
                graph::INITIALIZER => {
                    let scanned = scan(&mut self.source, field.at, field.end, self.limits)?;
                    if scanned.name.is_empty() {
                        return Err(Error::malformed("an initializer has no name").offset(field.begin));
                    }
                    let name = scanned.noted_name.as_ref().unwrap_or(&scanned.name).clone();
                    self.tensor(scanned, scope, name)?
                }
                graph::SPARSE_INITIALIZER => self.sparse(&field, scope, None)?,
                number => {
                    self.summary.n_inputs += u64::from(is_main && number == graph::INPUT);
                    self.summary.n_outputs += u64::from(is_main && number == graph::OUTPUT);
                    self.copy(&field, &mut out)?;
                    continue;
                }
            };
            self.nest(&mut out, field.number, &inside, first);
        }
        self.depth -= 1;
        Ok(out)
    }

    /// A `NodeProto`.
    pub(super) fn node(&mut self, message: &Field, scope: Scope) -> Result<Vec<u8>> {
        self.summary.n_nodes += 1;
        let fields = self.list(message)?;
        let op_type = self.text_of(&fields, node::OP_TYPE)?;
        let domain = self.text_of(&fields, node::DOMAIN)?;
        self.note_codes(&fields, &op_type, &domain, scope)?;
        let is_constant = op_type == "Constant" && matches!(domain.as_str(), "" | "ai.onnx");
        let has_attributes = fields.iter().any(|field| field.number == node::ATTRIBUTE);
        let mut out = vec![];
        if !has_attributes {
            self.n_bytes = self.n_bytes.saturating_add(message.len());
            Limits::check("the document is too long", self.n_bytes, self.limits.header_bytes)?;
            self.source.append(message.at, message.end, &mut out)?;
            return Ok(out);
        }
        let is_output = |field: &&Field| (field.number, field.wire) == (node::OUTPUT, Wire::Bytes);
        let output = match fields.iter().find(is_output) {
            Some(field) => self.text(field)?,
            None => String::new(),
        };
        let name = self.text_of(&fields, node::NAME)?;
        let way =
            [name, output.clone(), op_type].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let owner = Owner { scope, is_constant, output, way };
        for field in &fields {
            let first = self.pending.len();
            if (field.number, field.wire) == (node::ATTRIBUTE, Wire::Bytes) {
                let inside = self.attribute(field, &owner)?;
                self.nest(&mut out, field.number, &inside, first);
            } else {
                self.copy(field, &mut out)?;
            }
        }
        Ok(out)
    }

    fn attribute(&mut self, message: &Field, owner: &Owner) -> Result<Vec<u8>> {
        let fields = self.list(message)?;
        let name = self.text_of(&fields, attribute::NAME)?;
        let is_reference = fields.iter().any(|field| field.number == attribute::REF_ATTR_NAME);
        let is_constant = owner.is_constant && !is_reference;
        if is_constant && let Some((dtype, shape, payload)) = of_attribute(&name, &fields)? {
            return self.numbers(message, owner, dtype, shape, payload);
        }
        let is_value = is_constant && name == "value";
        let mut out = vec![];
        for field in &fields {
            let first = self.pending.len();
            let inside = match field.number {
                attribute::T | attribute::TENSORS if field.wire == Wire::Bytes => {
                    let scanned = scan(&mut self.source, field.at, field.end, self.limits)?;
                    let is_elsewhere = matches!(scanned.payload, Payload::External(_));
                    if !is_value && !is_elsewhere {
                        // Arguments of other operators are no weights; what of them lies in another file has to be
                        // carried all the same.
                        self.copy(field, &mut out)?;
                        continue;
                    }
                    let local = match &scanned.noted_name {
                        Some(noted) if is_value => noted.clone(),
                        _ if is_value => owner.output.clone(),
                        _ => format!("{}.{name}", owner.way),
                    };
                    self.tensor(scanned, owner.scope, local).map_err(|error| error.offset(field.begin))?
                }
                attribute::SPARSE_TENSOR | attribute::SPARSE_TENSORS if field.wire == Wire::Bytes => {
                    let local =
                        if is_constant { owner.output.clone() } else { format!("{}.{name}", owner.way) };
                    self.sparse(field, owner.scope, Some(local))?
                }
                attribute::G | attribute::GRAPHS if field.wire == Wire::Bytes => {
                    let around = &self.scopes[owner.scope.0];
                    let way = [around.as_str(), &owner.way, &name];
                    let way: Vec<&str> = way.into_iter().filter(|part| !part.is_empty()).collect();
                    let way = way.join(".");
                    Limits::check(
                        "the way to a graph is too long",
                        way.len() as u64,
                        self.limits.name_bytes as u64,
                    )?;
                    let scope = self.scope(way, Some(owner.scope));
                    self.graph(field, scope, false)?
                }
                _ => {
                    self.copy(field, &mut out)?;
                    continue;
                }
            };
            self.nest(&mut out, field.number, &inside, first);
        }
        if is_constant && matches!(name.as_str(), "value_string" | "value_strings") {
            let n = fields.iter().filter(|field| field.number == attribute::STRINGS).count().max(1);
            self.summary.texts.push((owner.output.clone(), n as u64));
        }
        Ok(out)
    }

    /// An attribute of numbers, which stay where they are: they are few, and may be written as they came.
    fn numbers(
        &mut self,
        message: &Field,
        owner: &Owner,
        dtype: DType,
        mut shape: Vec<u64>,
        payload: Payload,
    ) -> Result<Vec<u8>> {
        let mut out = vec![];
        self.count_bytes(message)?;
        self.source.append(message.at, message.end, &mut out)?;
        if let Payload::Typed { values: Values::Varints, runs } = &payload
            && let [extent] = &mut shape[..]
        {
            let mut n = 0;
            for field in Fields::of(&out) {
                let field = field?;
                if (field.number, field.wire) == (attribute::INTS, Wire::Bytes) {
                    n += count_varints(field.value).map_err(|error| error.offset(message.begin))?;
                }
            }
            *extent += n;
            check_pieces(runs).map_err(|error| error.offset(message.begin))?;
        }
        let found = Found { name: String::new(), dtype, shape, place: Place::Attribute, at: 0, payload };
        self.push(owner.scope, owner.output.clone(), found).map_err(|error| error.offset(message.begin))?;
        Ok(out)
    }

    /// A `SparseTensorProto`: its parts are tensors.
    fn sparse(&mut self, message: &Field, scope: Scope, local: Option<String>) -> Result<Vec<u8>> {
        let fields = self.list(message)?;
        let mut out = vec![];
        let mut name = local;
        let n_parts = [sparse::VALUES, sparse::INDICES].map(|number| {
            fields.iter().filter(|field| field.number == number && field.wire == Wire::Bytes).count()
        });
        if n_parts != [1, 1] {
            return Err(Error::malformed("a sparse tensor does not have values and indices once each")
                .offset(message.begin));
        }
        // Its name is that of its values, which may come second.
        let is_values = |field: &&Field| (field.number, field.wire) == (sparse::VALUES, Wire::Bytes);
        let values = fields.iter().find(is_values);
        if let (None, Some(values)) = (&name, values) {
            name = Some(scan(&mut self.source, values.at, values.end, self.limits)?.name);
        }
        let name = name.unwrap_or_default();
        if name.is_empty() {
            return Err(Error::malformed("a sparse tensor has no name").offset(message.begin));
        }
        self.sparse.push((scope, name.clone()));
        for field in &fields {
            let first = self.pending.len();
            let part = match (field.number, field.wire) {
                (sparse::VALUES, Wire::Bytes) => "values",
                (sparse::INDICES, Wire::Bytes) => "indices",
                _ => {
                    self.copy(field, &mut out)?;
                    continue;
                }
            };
            let scanned = scan(&mut self.source, field.at, field.end, self.limits)?;
            let inside = self.tensor(scanned, scope, format!("{name}.{part}"))?;
            self.nest(&mut out, field.number, &inside, first);
        }
        Ok(out)
    }

    /// Adds a tensor and returns its message without elements.
    fn tensor(&mut self, scanned: Scanned, scope: Scope, local: String) -> Result<Vec<u8>> {
        let Scanned { body, hole, dims, element, payload, .. } = scanned;
        self.n_bytes = self.n_bytes.saturating_add(body.len() as u64);
        Limits::check("the document is too long", self.n_bytes, self.limits.header_bytes)?;
        match element {
            Some(element) => {
                let (dtype, place) = (element.dtype, Place::Tensor);
                let found = Found { name: String::new(), dtype, shape: dims, place, at: hole, payload };
                self.push(scope, local, found)?;
            }
            None => {
                let n = modelferry_core::expr::volume(&dims).unwrap_or(0);
                self.summary.texts.push((local, n));
            }
        }
        Ok(body)
    }

    fn push(&mut self, scope: Scope, local: String, found: Found) -> Result<()> {
        if local.is_empty() {
            return Err(Error::malformed("a constant makes no value"));
        }
        self.pending.push(Pending { scope, local, found });
        Limits::check("too many tensors", self.pending.len() as u64, self.limits.tensors)
    }

    /// Gives every tensor a name of its own: those of the main graph theirs, others theirs where it is free.
    pub(super) fn finish(self) -> Result<(Vec<Found>, Vec<Coded>, Summary)> {
        let mut seen: HashSet<(usize, &str)> = HashSet::with_capacity(self.pending.len());
        let dense = self.pending.iter().map(|pending| (pending.scope, &pending.local));
        for (scope, name) in dense.chain(self.sparse.iter().map(|(scope, name)| (*scope, name))) {
            if !seen.insert((scope.0, name)) {
                let error = Error::malformed("two tensors of the graph have this name").tensor(name);
                let way = &self.scopes[scope.0];
                return Err(if way.is_empty() {
                    error
                } else {
                    error.found(format_args!("in {}", crate::shown(way)))
                });
            }
        }
        let mut names = Names::default();
        let root = self.pending.iter().filter(|pending| pending.scope == Walk::ROOT);
        names.taken.extend(root.map(|pending| pending.local.clone()));
        let mut tensors = Vec::with_capacity(self.pending.len());
        let mut locals = Vec::with_capacity(self.pending.len());
        for pending in self.pending {
            let Pending { scope, local, mut found } = pending;
            if !self.uses.is_empty() {
                locals.push((scope.0, local.clone()));
            }
            found.name = match scope {
                Walk::ROOT => local,
                _ => names.free(local, &self.scopes[scope.0]),
            };
            tensors.push(found);
        }
        let by_local = locals.iter().enumerate().map(|(idx, (scope, name))| ((*scope, name.as_str()), idx));
        let codes = self.uses.resolve(&by_local.collect(), &self.around, &tensors);
        Ok((tensors, codes, self.summary))
    }
}

/// The node that an attribute belongs to.
struct Owner {
    scope: Scope,
    /// Whether its attribute is a value that it makes.
    is_constant: bool,
    output: String,
    /// What it is called on the way to what is in it.
    way: String,
}
