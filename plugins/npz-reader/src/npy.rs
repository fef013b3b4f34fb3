//! A single array file.

use crate::array::{OPTIONS, add_array};
use modelferry_core::Result;
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Magic, Place, Reader, ReaderInfo, Verdict};
use modelferry_wire::npy::{MAGIC, read_header};

/// The reader of single arrays. The tensor is named after the file.
#[derive(Clone, Copy, Debug)]
pub struct NpyReader;

static INFO: ReaderInfo = ReaderInfo {
    format: "npy",
    about: "a single numpy array",
    extensions: &[".npy"],
    magic: &[Magic { at: 0, bytes: b"\x93NUMPY" }],
    place: Place::File,
    options: OPTIONS,
};

impl Reader for NpyReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        let root = inputs.root();
        let mut magic = MAGIC.map(|_| 0);
        if inputs.len(root) >= 6 && inputs.read_at(root, 0, &mut magic).is_ok() && magic == MAGIC {
            Verdict::Content
        } else if inputs.name(root).ends_with(".npy") {
            Verdict::Name
        } else {
            Verdict::No
        }
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let root = inputs.root();
        let len = inputs.len(root);
        let file_name = inputs.name(root);
        let header = read_header(inputs, Window { file: root, at: 0, len }, host.limits())?;
        header.check_len(len).map_err(|error| error.file(&file_name))?;
        let mut model = Model::default();
        let bytes = model.nodes.region(root, 0, len).map_err(|error| error.file(&file_name))?;
        let name = file_name.strip_suffix(".npy").unwrap_or(&file_name);
        add_array(&mut model, name, &header, bytes, None, options).map_err(|error| error.file(&file_name))?;
        Ok(model)
    }
}
