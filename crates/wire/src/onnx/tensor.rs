//! One `TensorProto` of a file: what describes it, and where its elements lie.

use super::NAME_KEY;
use super::elements::{Element, STRING, from_data_type};
use super::external::External;
use super::fields::{Wire, tag};
use super::file::{Field, Source};
use super::messages::TensorShell;
use super::tensor_proto::*;
use modelferry_core::dtype::{Class, DType};
use modelferry_core::expr::volume;
use modelferry_core::limits::Limits;
use modelferry_core::{Error, Result};
use prost::Message as _;

/// What a tensor's place in the document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A place in a `TensorProto` whose other fields are there.
    Tensor,
    /// An `AttributeProto` that holds numbers of its own; the numbers are still there.
    Attribute,
}

/// Elements that follow each other in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First byte: of the elements, or of the first one's tag.
    pub at: u64,
    /// Behind the last.
    pub end: u64,
    /// The tag that stands before every element, where they are not packed.
    pub tag: Option<u64>,
    /// How many elements there are, where they are not packed.
    pub n: u64,
}

/// How the elements of [`Run`]s are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// As numbers of this many bytes, least significant first.
    Fixed(u64),
    /// As varints.
    Varints,
}

/// Where a tensor's elements lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nowhere: it has none.
    Empty,
    /// In these bytes of the file, densely packed.
    Raw {
        /// First byte.
        at: u64,
        /// How many.
        len: u64,
    },
    /// In fields of their own kind. Bit patterns stand for types that have no field; of types below a byte, each value
    /// is a byte of several elements.
    Typed {
        /// How each is stored.
        values: Values,
        /// In order.
        runs: Vec<Run>,
    },
    /// In another file.
    External(External),
}

/// Most pieces that the elements of a tensor may lie in: any program writes one.
const MAX_RUNS: usize = 1 << 12;

/// A `TensorProto`, apart from its elements.
pub(super) struct Scanned {
    /// All of its fields but those that hold elements or say where they lie.
    pub(super) body: Vec<u8>,
    /// Where in it those belong.
    pub(super) hole: u64,
    pub(super) name: String,
    /// What a file of ours says that it is called.
    pub(super) noted_name: Option<String>,
    pub(super) dims: Vec<u64>,
    /// Nothing for texts.
    pub(super) element: Option<Element>,
    pub(super) payload: Payload,
}

/// Reads the tensor at `at..end`.
///
/// Errors: elements that are stated twice, or in the wrong field, or are more or fewer than the shape says; unknown
/// types; negative extents.
pub(super) fn scan(source: &mut Source<'_>, mut at: u64, end: u64, limits: &Limits) -> Result<Scanned> {
    let begin = at;
    let mut body = vec![];
    let mut location = vec![];
    let mut hole = None;
    let mut parts = Parts::default();
    while let Some(field) = source.field(&mut at, end)? {
        let len = body.len() as u64;
        match field.number {
            FLOAT_DATA | INT32_DATA | INT64_DATA | RAW_DATA | DOUBLE_DATA | UINT64_DATA => {
                hole.get_or_insert(len);
                parts.add(&field).map_err(|error| error.offset(field.begin))?;
            }
            EXTERNAL_DATA | DATA_LOCATION => {
                hole.get_or_insert(len);
                source.append(field.begin, field.end, &mut location)?;
            }
            SEGMENT => {
                return Err(
                    Error::unsupported("a tensor that is a segment of a larger one").offset(field.begin)
                );
            }
            _ => source.append(field.begin, field.end, &mut body)?,
        }
        let kept = (body.len() + location.len()) as u64;
        Limits::check("a tensor is described at too great a length", kept, limits.header_bytes)?;
    }
    let decoded = |bytes: &[u8]| {
        let malformed = |error| Error::malformed("a tensor's description is damaged").source(error);
        TensorShell::decode(bytes).map_err(|error| malformed(error).offset(begin))
    };
    let shell = decoded(&body)?;
    let placed = decoded(&location)?;
    let name = shell.name.unwrap_or_default();
    let mut notes = shell.metadata_props.into_iter();
    let noted_name = notes.find(|entry| entry.key.as_deref() == Some(NAME_KEY)).and_then(|entry| entry.value);
    let hole = hole.unwrap_or(body.len() as u64);
    let context =
        |error: Error| if name.is_empty() { error.offset(begin) } else { error.tensor(&name).offset(begin) };
    let (dims, element) = described(&shell.dims, shell.data_type, limits).map_err(context)?;
    let payload = match placed.data_location {
        None | Some(0) => {
            // What is said of another file does not hold; it is kept with the rest.
            body.extend_from_slice(&location);
            parts.finish(&dims, element).map_err(context)?
        }
        Some(1) => match parts.is_empty() {
            true if element.is_some() => {
                External::parse(&placed.external_data).map(Payload::External).map_err(context)?
            }
            true => return Err(context(Error::malformed("texts cannot lie in another file"))),
            false => {
                return Err(context(Error::malformed("a tensor's elements are here and in another file")));
            }
        },
        Some(other) => {
            let error = Error::malformed("a tensor's elements lie in an unknown kind of place");
            return Err(context(error.found(other)));
        }
    };
    let payload = if volume(&dims) == Some(0) { Payload::Empty } else { payload };
    Ok(Scanned { body, hole, name, noted_name, dims, element, payload })
}

/// Extents and type.
fn described(dims: &[i64], data_type: Option<i32>, limits: &Limits) -> Result<(Vec<u64>, Option<Element>)> {
    Limits::check("too many dimensions", dims.len() as u64, limits.rank as u64)?;
    let negative = |dim: &i64| Error::malformed("a dimension is negative").found(dim);
    let dims: Result<Vec<u64>> =
        dims.iter().map(|dim| u64::try_from(*dim).map_err(|_| negative(dim))).collect();
    let dims = dims?;
    let too_many = || Error::malformed("a tensor has too many elements").found(format_args!("{dims:?}"));
    let n = volume(&dims).ok_or_else(too_many)?;
    let element = match data_type {
        Some(STRING) => None,
        Some(0) | None => return Err(Error::malformed("a tensor has no type")),
        Some(number) => Some(from_data_type(number).ok_or_else(|| {
            Error::unsupported("an element type that onnx 1.23 does not have").found(number)
        })?),
    };
    if element
        .is_some_and(|element: Element| element.dtype.packed_len(n).is_none_or(|len| len > i64::MAX as u64))
    {
        return Err(too_many());
    }
    Ok((dims, element))
}

/// The fields of a tensor or attribute that hold elements.
#[derive(Default)]
pub(super) struct Parts {
    /// Number of the field.
    number: Option<u32>,
    raw: Option<(u64, u64)>,
    runs: Vec<Run>,
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.number.is_none()
    }

    /// Takes one of the fields of a `TensorProto`.
    fn add(&mut self, field: &Field) -> Result<()> {
        if self.number.is_some_and(|number| number != field.number) {
            return Err(Error::malformed("a tensor's elements are stated in two ways"));
        }
        self.number = Some(field.number);
        let values = match field.number {
            RAW_DATA if field.wire != Wire::Bytes => {
                return Err(Error::malformed("raw data that is no sequence of bytes"));
            }
            RAW_DATA if self.raw.is_some() => return Err(Error::malformed("raw data stands twice")),
            RAW_DATA => {
                self.raw = Some((field.at, field.len()));
                return Ok(());
            }
            FLOAT_DATA => Values::Fixed(4),
            DOUBLE_DATA => Values::Fixed(8),
            _ => Values::Varints,
        };
        self.take(field, values)
    }

    /// Takes a field of repeated numbers, packed or not.
    pub(super) fn take(&mut self, field: &Field, values: Values) -> Result<()> {
        let wire = match values {
            Values::Fixed(4) => Wire::Fixed32,
            Values::Fixed(_) => Wire::Fixed64,
            Values::Varints => Wire::Varint,
        };
        let own_tag = tag(field.number, wire);
        match self.runs.last_mut() {
            _ if field.wire == Wire::Bytes => {
                // An empty one says nothing.
                if field.len() > 0 {
                    self.runs.push(Run { at: field.at, end: field.end, tag: None, n: 0 });
                }
            }
            _ if field.wire != wire => {
                return Err(Error::malformed("numbers of a type that their field does not have"));
            }
            Some(last) if last.tag == Some(own_tag) && last.end == field.begin => {
                last.end = field.end;
                last.n += 1;
            }
            _ => self.runs.push(Run { at: field.begin, end: field.end, tag: Some(own_tag), n: 1 }),
        }
        if self.runs.len() > MAX_RUNS {
            return Err(Error::limit("a tensor's elements lie in too many pieces").expected(MAX_RUNS));
        }
        Ok(())
    }

    /// The runs of repeated numbers of an attribute.
    pub(super) fn into_runs(self) -> Vec<Run> {
        self.runs
    }

    /// What the fields are together, which must be as much as the shape and the type want.
    fn finish(self, dims: &[u64], element: Option<Element>) -> Result<Payload> {
        let Some(element) = element else {
            return match self.number {
                None => Ok(Payload::Empty),
                Some(_) => Err(Error::malformed("texts are stated as numbers")),
            };
        };
        let n = volume(dims).unwrap_or(u64::MAX);
        let bytes = element.dtype.packed_len(n).unwrap_or(u64::MAX);
        let differs = |what: &'static str, expected: u64, found: u64, unit: &str| {
            Err(Error::malformed(what)
                .expected(format_args!("{expected} {unit}"))
                .found(format_args!("{found} {unit}")))
        };
        let Some(number) = self.number else {
            return match n {
                0 => Ok(Payload::Empty),
                _ => differs("a tensor has no elements", bytes, 0, "bytes"),
            };
        };
        if let Some((at, len)) = self.raw {
            return match len == bytes {
                true => Ok(Payload::Raw { at, len }),
                false => differs("raw data is not as long as the shape says", bytes, len, "bytes"),
            };
        }
        if number != element.field {
            return Err(Error::malformed("elements in a field of another type")
                .expected(format_args!("field {}", element.field))
                .found(format_args!("field {number}")));
        }
        let per_element = if element.dtype.class() == Class::Complex { 2 } else { 1 };
        let n_values = if element.dtype.is_sub_byte() { bytes } else { n.saturating_mul(per_element) };
        let values = match number {
            FLOAT_DATA => Values::Fixed(4),
            DOUBLE_DATA => Values::Fixed(8),
            _ => Values::Varints,
        };
        check_count(&self.runs, values, n_values)?;
        Ok(Payload::Typed { values, runs: self.runs })
    }
}

/// Refuses runs of varints of which it is not known how many numbers each holds: packed ones that follow each other are
/// one, but others between them stand apart.
pub(super) fn check_pieces(runs: &[Run]) -> Result<()> {
    match runs
        .chunk_by(|a, b| a.tag.is_none() && b.tag.is_none())
        .filter(|runs| runs[0].tag.is_none())
        .count()
    {
        0 | 1 => Ok(()),
        n => Err(Error::unsupported("packed numbers in several pieces, and others between them").found(n)),
    }
}

/// Refuses runs that cannot hold `n` values. How many packed varints there are only reading them would tell.
fn check_count(runs: &[Run], values: Values, n: u64) -> Result<()> {
    let (mut least, mut most) = (0u64, 0u64);
    if values == Values::Varints {
        check_pieces(runs)?;
    }
    for run in runs {
        let len = run.end - run.at;
        let (low, high) = match (values, run.tag) {
            (_, Some(_)) => (run.n, run.n),
            (Values::Fixed(width), None) if len % width != 0 => {
                return Err(Error::malformed("packed numbers end within one").offset(run.at));
            }
            (Values::Fixed(width), None) => (len / width, len / width),
            (Values::Varints, None) => (len.div_ceil(10), len),
        };
        least = least.saturating_add(low);
        most = most.saturating_add(high);
    }
    if (least..=most).contains(&n) {
        return Ok(());
    }
    let found = if n < least { least } else { most };
    let bound = if least == most {
        ""
    } else if n < least {
        "at least "
    } else {
        "at most "
    };
    Err(Error::malformed("a tensor has more or fewer elements than its shape says")
        .expected(format_args!("{n} numbers"))
        .found(format_args!("{bound}{found}")))
}

/// The elements of an attribute that holds numbers of its own: type, extents and where they lie. `None` for a name
/// that is no such attribute of a `Constant`.
pub(super) fn of_attribute(name: &str, fields: &[Field]) -> Result<Option<(DType, Vec<u64>, Payload)>> {
    use super::attribute::{F, FLOATS, I, INTS};
    let (number, dtype, values, is_list) = match name {
        "value_float" => (F, DType::F32, Values::Fixed(4), false),
        "value_floats" => (FLOATS, DType::F32, Values::Fixed(4), true),
        "value_int" => (I, DType::I64, Values::Varints, false),
        "value_ints" => (INTS, DType::I64, Values::Varints, true),
        _ => return Ok(None),
    };
    let mut parts = Parts::default();
    for field in fields.iter().filter(|field| field.number == number) {
        if !is_list && field.wire == Wire::Bytes {
            return Err(Error::malformed("a single number is stated as several").offset(field.begin));
        }
        parts.take(field, values).map_err(|error| error.offset(field.begin))?;
    }
    let runs = parts.into_runs();
    if !is_list {
        return match runs[..] {
            [run] if run.n == 1 => Ok(Some((dtype, vec![], Payload::Typed { values, runs }))),
            _ => Err(Error::malformed("a constant of one number has none, or several")),
        };
    }
    let mut n = 0;
    for run in &runs {
        n += match (values, run.tag) {
            (_, Some(_)) => run.n,
            (Values::Fixed(width), None) => (run.end - run.at) / width,
            // Counted by the caller, who has the file.
            (Values::Varints, None) => 0,
        };
    }
    let payload = if runs.is_empty() { Payload::Empty } else { Payload::Typed { values, runs } };
    Ok(Some((dtype, vec![n], payload)))
}
