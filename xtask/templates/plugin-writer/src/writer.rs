//! Model -> header and pieces.

use modelferry_core::layout::{Layout, Piece};
use modelferry_core::loss::Loss;
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::{DType, Error, Result};

/// The __NAME__ writer.
#[derive(Clone, Copy, Debug)]
pub struct __TYPE__Writer;

/// STEP 2. The types that the format stores exactly: `DType::F32` and so on. A tensor of another type is refused before
/// the writer is asked.
const DTYPES: &[DType] = &[];

static INFO: WriterInfo = WriterInfo {
    // As in `--to __NAME__`.
    format: "__NAME__",
    // STEP 2. One line for a person.
    about: "__NAME__: the writer is not written yet",
    extensions: &[".__NAME__"],
    place: Place::File,
    options: &[],
    dtypes: DTYPES,
    // STEP 2. What the format can hold. What is more is refused before the writer is asked.
    max_rank: 8,
    max_tensors: u64::MAX,
    // What is `No` here is dropped from the model, and reported.
    names: Carries::Yes,
    ties: Carries::No,
    metadata: MetadataForm::None,
    tree: Carries::No,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::No,
};

impl Writer for __TYPE__Writer {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    /// Says what every byte of the output is: these bytes, or that range of a tensor, which the program fetches. What
    /// is lost beyond what [`INFO`] says is a [`Loss`]: an order that changes, a name that is made to fit.
    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut pieces = vec![Piece::Bytes(header(view)?.into())];
        // Tensors one after the other, little-endian and row-major. `Piece::Zero(n)` pads.
        pieces.extend((0..view.tensors().len()).map(|idx| Piece::tensor(view, idx)));
        let mut layout = Layout::default();
        layout.push_file(request.file_name, pieces);
        Ok((layout, vec![]))
    }
}

/// STEP 3. The bytes before the tensors.
///
/// `view.tensors()` gives name, dtype, shape and length in bytes of each. The same model gives the same bytes: no time,
/// no path, no order of a hash table. What the format cannot hold although info() could not say so (a name that is too
/// long) is `Error::target("__NAME__ ...").tensor(name).expected("...").found("...")`.
fn header(view: &ModelView<'_>) -> Result<Vec<u8>> {
    let _ = view;
    Err(Error::unsupported("header() is not written yet (src/writer.rs)"))
}
