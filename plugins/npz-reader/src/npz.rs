//! An archive of arrays.

use crate::array::{OPTIONS, add_array};
use modelferry_core::expr::{Codec, NodeId};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Claim, Model};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Answer, Host, Magic, Place, Query, Reader, ReaderInfo, Verdict};
use modelferry_core::{Error, Result};
use modelferry_wire::npy::{Header, MAGIC, Parsed, decode_dtype, parse, read_header};
use modelferry_wire::zip::{Directory, Entry, Method};
use std::collections::HashSet;

/// The reader of archives. A tensor is named after its member, without `.npy`.
#[derive(Clone, Copy, Debug)]
pub struct NpzReader;

static INFO: ReaderInfo = ReaderInfo {
    format: "npz",
    about: "numpy archives, stored or deflated",
    extensions: &[".npz"],
    magic: &[Magic { at: 0, bytes: b"PK" }],
    place: Place::File,
    options: OPTIONS,
};

/// Bytes of a deflated member inflated at first: numpy's own headers have 128.
const FIRST_PREFIX: u64 = 128;

impl Reader for NpzReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    /// torch's archives are zip files too: the first member decides, or the name where there is none.
    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        let root = inputs.root();
        let named = inputs.name(root).ends_with(".npz");
        let mut start = vec![0; inputs.len(root).min(30 + 512) as usize];
        if inputs.read_at(root, 0, &mut start).is_ok() && start.len() >= 22 {
            let is_empty = start.starts_with(b"PK\x05\x06");
            let is_zip = start.starts_with(b"PK\x03\x04") && start.len() > 30;
            let name_len = if is_zip { usize::from(u16::from_le_bytes([start[26], start[27]])) } else { 0 };
            let is_array = start.get(30..30 + name_len).is_some_and(|name| name.ends_with(b".npy"));
            if is_zip && (is_array || named) || is_empty && named {
                return Verdict::Content;
            }
        }
        if named { Verdict::Name } else { Verdict::No }
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let root = inputs.root();
        let directory =
            Directory::read(inputs, Window { file: root, at: 0, len: inputs.len(root) }, host.limits())?;
        let mut model = Model::default();
        let mut names = HashSet::with_capacity(directory.entries.len());
        for entry in &directory.entries {
            let name = entry.name.strip_suffix(".npy").unwrap_or(&entry.name);
            let place = |error: Error| error.file(inputs.name(root)).tensor(name).offset(entry.data_at);
            let Some(header) = member_header(inputs, &directory, entry, host).map_err(place)? else {
                if !entry.name.ends_with('/') {
                    // Not ours to read, but the archive states its checksum all the same.
                    let bytes = member_bytes(&mut model, &directory, entry).map_err(place)?;
                    model.claims.push(Claim { node: bytes, crc32: entry.crc32, is_header: false });
                    model.losses.push(Loss::declared(
                        LossKind::Metadata,
                        &entry.name,
                        "this member is no array",
                    ));
                }
                continue;
            };
            if !names.insert(name) {
                return Err(place(
                    Error::malformed("two members are arrays of this name").offset(entry.header_at),
                ));
            }
            header.check_len(entry.len).map_err(place)?;
            let bytes = member_bytes(&mut model, &directory, entry).map_err(place)?;
            model.claims.push(Claim { node: bytes, crc32: entry.crc32, is_header: false });
            let stated = decode_dtype(&entry.extra).map_err(place)?;
            add_array(&mut model, name, &header, bytes, stated, options).map_err(place)?;
        }
        // A file that is named so may be an archive of something else: numpy opens it too.
        let is_named = inputs.name(root).ends_with(".npz");
        if let (false, true, Some(entry)) = (is_named, model.tensors.is_empty(), directory.entries.first()) {
            return Err(Error::malformed("no member of the archive is an array")
                .file(inputs.name(root))
                .found(format_args!("{:?} and the like", entry.name.chars().take(100).collect::<String>())));
        }
        Ok(model)
    }
}

/// Adds a member's bytes, inflated if need be.
fn member_bytes(model: &mut Model, directory: &Directory, entry: &Entry) -> Result<NodeId> {
    let window = directory.data(entry);
    let bytes = model.nodes.region(window.file, window.at, window.len)?;
    match entry.method {
        Method::Stored => Ok(bytes),
        Method::Deflated => model.nodes.inflate(bytes, Codec::Deflate, entry.len),
    }
}

/// The array header of a member; `None` for one that is no array. numpy goes by the magic, not by the name.
fn member_header(
    inputs: &dyn Inputs,
    directory: &Directory,
    entry: &Entry,
    host: &mut dyn Host,
) -> Result<Option<Header>> {
    let window = directory.data(entry);
    let must = entry.name.ends_with(".npy");
    if entry.method == Method::Stored {
        let mut magic = MAGIC.map(|_| 0);
        let is_array =
            entry.len >= 6 && inputs.read_at(window.file, window.at, &mut magic).is_ok() && magic == MAGIC;
        return match is_array || must {
            true => read_header(inputs, window, host.limits()).map(Some),
            false => Ok(None),
        };
    }
    // A model of its own, so that the question costs the same however many members there are.
    let mut probe = Model::default();
    let deflated = probe.nodes.region(window.file, window.at, window.len)?;
    let node = probe.nodes.inflate(deflated, Codec::Deflate, entry.len)?;
    let mut wanted = FIRST_PREFIX;
    loop {
        let len = wanted.min(entry.len);
        let Answer::Bytes(prefix) = host.ask(&probe, Query::Small { node, at: 0, len })? else {
            return Err(Error::plugin("a question for bytes was answered otherwise"));
        };
        if !must && !prefix.starts_with(&MAGIC) {
            return Ok(None);
        }
        match parse(&prefix, host.limits())? {
            Parsed::Header(header) => return Ok(Some(header)),
            Parsed::NeedMore(more) if more <= wanted || more > entry.len => {
                return Err(Error::malformed("the array's header is cut short")
                    .expected(format_args!("{more} bytes"))
                    .found(format_args!("{} bytes", entry.len)));
            }
            Parsed::NeedMore(more) => wanted = more,
        }
    }
}
