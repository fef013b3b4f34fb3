//! Model -> one file.

use crate::document::{self, Outcome};
use crate::plain;
use modelferry_core::layout::Layout;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::ModelView;
use modelferry_core::options::{OptionKind, OptionSpec};
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::tree::{Tree, beside_tensors};
use modelferry_core::{DType, Error, Result};
use modelferry_wire::msgpack;

/// The writer of flax's files.
#[derive(Clone, Copy, Debug)]
pub struct MsgpackWriter;

/// How the files are called.
const EXTENSION: &str = ".msgpack";

const DTYPES: &[DType] = &msgpack::dtypes();

static INFO: WriterInfo = WriterInfo {
    format: "msgpack",
    about: "Flax and JAX checkpoints as flax.serialization writes them",
    extensions: &[EXTENSION],
    place: Place::File,
    options: &[OptionSpec {
        name: "dictionaries",
        kind: OptionKind::Choice(&["flat", "nested"]),
        default: "flat",
        help: "how names of a source that is not nested are written: in one dictionary, or in nested ones, split at dots",
    }],
    dtypes: DTYPES,
    // numpy 2 allows 64 dimensions (`NPY_MAXDIMS`).
    max_rank: 64,
    max_tensors: u64::MAX,
    names: Carries::Yes,
    ties: Carries::No,
    metadata: MetadataForm::None,
    tree: Carries::Yes,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::No,
};

impl Writer for MsgpackWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut losses = vec![];
        let mut written = None;
        // A lone tensor keeps its name, which no document of it has.
        let is_alone = |tree: &Tree| tree.root().is_some_and(|root| tree.tensor(root).is_some());
        if let Some(tree) = view.tree().filter(|tree| !is_alone(tree)) {
            match document::write(view, tree, host.limits())? {
                Outcome::Written(whole) => written = Some(whole),
                Outcome::Unfit(why) => {
                    let detail = format!("{why}: its tensors are written flat");
                    losses.push(Loss::declared(LossKind::Tree, "the checkpoint", detail));
                    losses.extend(beside_tensors(tree).into_iter().map(|part| {
                        let detail = format!("{}, not carried into a plain dictionary of tensors", part.what);
                        Loss::declared(LossKind::Tree, part.path, detail)
                    }));
                }
            }
        }
        let written = match written {
            Some(written) => written,
            None => {
                let tree = plain::tree(view, request.options.get("dictionaries") == Some("nested"))?;
                match document::write(view, &tree, host.limits())? {
                    Outcome::Written(written) => written,
                    Outcome::Unfit(why) => return Err(Error::target(why)),
                }
            }
        };
        losses.extend(written.losses);
        if !written.order.is_sorted() {
            let detail = "tensors are read back in the order in which the dictionaries hold them";
            losses.push(Loss::declared(LossKind::Order, request.file_name, detail));
        }
        let mut layout = Layout::default();
        layout.push_file(request.file_name, written.pieces);
        if written.n_tuples > 0 {
            layout.notes.push(format!("{} tuples are written as lists", written.n_tuples));
        }
        Ok((layout, losses))
    }
}

#[cfg(test)]
mod tests;
