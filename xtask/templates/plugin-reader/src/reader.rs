//! One file: its header becomes tensors over regions of the file.

use crate::identify;
use modelferry_core::expr::{Packing, volume};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::{DType, Error, Result};

/// The __NAME__ reader.
#[derive(Clone, Copy, Debug)]
pub struct __TYPE__Reader;

static INFO: ReaderInfo = ReaderInfo {
    // As in `--from __NAME__`.
    format: "__NAME__",
    // STEP 2. One line for a person.
    about: "__NAME__: the reader is not written yet",
    // STEP 2. Endings of file names, longest first.
    extensions: &[".__NAME__"],
    // STEP 2. The bytes that every file holds at a fixed place, if there are any: a library is opened only for a file
    // that has the bytes or the name. `&[Magic { at: 0, bytes: b"FLAT" }]`
    magic: &[],
    place: Place::File,
    options: &[],
};

impl Reader for __TYPE__Reader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        identify::identify(inputs)
    }

    /// Reads the header and nothing else. No byte of a tensor is read here: the model says where they are, and the
    /// program moves them.
    fn read(&self, inputs: &dyn Inputs, _options: &Options, host: &mut dyn Host) -> Result<Model> {
        let file = inputs.root();
        let named = |error: Error| error.file(inputs.name(file));
        let mut model = Model::default();
        for entry in read_header(inputs, file, host.limits()).map_err(named)? {
            add_tensor(&mut model, file, &entry).map_err(|error| named(error).tensor(&entry.name))?;
        }
        Ok(model)
    }
}

/// What the header says of one tensor.
struct Entry {
    name: String,
    dtype: DType,
    /// Extents, outermost first; none for a scalar.
    shape: Vec<u64>,
    /// Where its bytes begin in the file.
    at: u64,
}

/// STEP 4. Reads the header: one entry for each tensor.
///
/// Every number in it is a stranger's. The suite cuts the file everywhere, flips every bit of the header, and puts
/// 0, 1, 2^31, 2^63 and the like into every place: what comes of it is an error or a model, soon, and no panic. So
///
/// - read with `inputs.read_vec(file, offset, len, limits.header_bytes)`, which checks before it reserves memory;
/// - add and multiply with `checked_add` and `checked_mul`, look into slices with `get`;
/// - check that the file is as long as the header says: a file that is cut is an error, not a smaller model;
/// - say what was wrong: `Error::malformed("the header has no end").offset(8).expected("...").found("...")`;
/// - `Error::unsupported` is for what the format has and this reader does not know.
fn read_header(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Vec<Entry>> {
    let _ = (inputs, file, limits);
    Err(Error::unsupported("read_header() is not written yet (src/reader.rs)"))
}

/// Adds a tensor whose elements stand in the file one after the other, little-endian and row-major.
///
/// Others are expressions too: `Packing { bytes: ByteOrder::Big, .. }`, `nodes.from_column_major`, `nodes.inflate`,
/// `nodes.view` for a stride; see `modelferry_core::expr`.
fn add_tensor(model: &mut Model, file: FileId, entry: &Entry) -> Result<()> {
    let overflows = || Error::malformed("the shape overflows");
    let n_elements = volume(&entry.shape).ok_or_else(overflows)?;
    let n_bytes = entry.dtype.packed_len(n_elements).ok_or_else(overflows)?;
    let n_items = entry.dtype.items(n_elements).ok_or_else(overflows)?;
    let bytes = model.nodes.region(file, entry.at, n_bytes)?;
    let data = model.nodes.decode(bytes, entry.dtype, n_items, Packing::default())?;
    model.push(entry.name.as_str(), entry.dtype, entry.shape.clone(), data)?;
    Ok(())
}
