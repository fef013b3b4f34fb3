//! A single array file.

use modelferry_core::layout::{Layout, Piece};
use modelferry_core::loss::Loss;
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::{DType, Error, Result};
use modelferry_wire::npy::{MemoryOrder, write_header};

/// The writer of single arrays.
#[derive(Clone, Copy, Debug)]
pub struct NpyWriter;

/// The types that numpy itself knows, and bf16: ml_dtypes has one type of two bytes, so `<V2` can mean nothing else.
#[rustfmt::skip]
const DTYPES: &[DType] = &[
    DType::Bool, DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64,
    DType::F16, DType::F32, DType::F64, DType::C64, DType::C128, DType::Bf16,
];

/// numpy 2 allows 64 dimensions (`NPY_MAXDIMS`); numpy 1 allowed 32.
pub(crate) const MAX_RANK: usize = 64;

static INFO: WriterInfo = WriterInfo {
    format: "npy",
    about: "a single numpy array",
    extensions: &[".npy"],
    place: Place::File,
    options: &[],
    dtypes: DTYPES,
    max_rank: MAX_RANK,
    max_tensors: 1,
    names: Carries::No,
    ties: Carries::No,
    metadata: MetadataForm::None,
    tree: Carries::No,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::No,
};

impl Writer for NpyWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let Some(tensor) = view.tensors().next() else {
            return Err(Error::target("an npy file holds exactly one array").found("no tensor"));
        };
        let mut losses = vec![];
        let stem = request.file_name.strip_suffix(".npy").unwrap_or(request.file_name);
        if tensor.name() != stem {
            losses.push(Loss::renamed(tensor.name(), stem, "an npy file names no array but by its own name"));
        }
        let header = write_header(tensor.dtype(), MemoryOrder::C, tensor.shape())?;
        let mut layout = Layout::default();
        layout.push_file(request.file_name, vec![Piece::Bytes(header.into()), Piece::tensor(view, 0)]);
        Ok((layout, losses))
    }
}
