//! An archive of arrays, stored.

use crate::npy::MAX_RANK;
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Patch, PatchForm, Piece};
use modelferry_core::loss::Loss;
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::{DType, Result};
use modelferry_wire::npy::{MemoryOrder, encode_dtype, type_string, write_header};
use modelferry_wire::zip::{Member, Padding, Writer as ZipWriter};

/// The writer of archives.
#[derive(Clone, Copy, Debug)]
pub struct NpzWriter;

#[rustfmt::skip]
const DTYPES: &[DType] = &[
    DType::Bool, DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64,
    DType::F16, DType::F32, DType::F64, DType::C64, DType::C128,
    DType::Bf16, DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz, DType::F8E8M0, DType::F8E3M4,
    DType::F8E4M3Ieee, DType::F8E4M3B11Fnuz,
];

/// Alignment of an array's elements in the file, and so of its 64-byte padded header: what numpy gives a lone array.
const ALIGN: u16 = 64;

static INFO: WriterInfo = WriterInfo {
    format: "npz",
    about: "numpy archives, stored",
    extensions: &[".npz"],
    place: Place::File,
    options: &[],
    dtypes: DTYPES,
    max_rank: MAX_RANK,
    max_tensors: u64::MAX,
    names: Carries::Yes,
    ties: Carries::No,
    metadata: MetadataForm::None,
    tree: Carries::No,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::No,
};

impl Writer for NpzWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut layout = Layout::default();
        let mut archive = ZipWriter::default();
        let mut pieces = vec![];
        let mut crc_in_directory = vec![];
        for (idx, tensor) in view.tensors().enumerate() {
            let array = write_header(tensor.dtype(), MemoryOrder::C, tensor.shape())
                .map_err(|error| error.tensor(tensor.name()))?;
            let is_void = type_string(tensor.dtype()).is_some_and(|text| text.contains('V'));
            let note = if is_void { encode_dtype(tensor.dtype()) } else { vec![] };
            let len = array.len() as u64 + tensor.byte_len();
            let member = Member {
                name: &format!("{}.npy", tensor.name()),
                len,
                align: ALIGN,
                padding: Padding::Alignment,
                local_extra: &[],
                central_extra: &note,
            };
            let placed = archive.add(member).map_err(|error| error.tensor(tensor.name()))?;
            let digest = layout.digests.len();
            let over = FileRange { file: 0, bytes: placed.data_at..placed.data_at + len };
            layout.digests.push(Digest { algo: DigestAlgo::Crc32, over });
            layout.patches.push(Patch { file: 0, at: placed.crc_at, form: PatchForm::Raw, digest });
            crc_in_directory.push(placed.crc_in_directory);
            pieces.push(Piece::Bytes([placed.header, array].concat().into()));
            pieces.push(Piece::tensor(view, idx));
        }
        let directory = archive.finish()?;
        for (digest, at) in crc_in_directory.into_iter().enumerate() {
            layout.patches.push(Patch { file: 0, at: directory.at + at, form: PatchForm::Raw, digest });
        }
        pieces.push(Piece::Bytes(directory.bytes.into()));
        layout.push_file(request.file_name, pieces);
        Ok((layout, vec![]))
    }
}
