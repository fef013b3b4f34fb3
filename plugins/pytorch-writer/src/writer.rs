//! Model -> pickles, archives and index.

use crate::archive;
use crate::document::{self, Foreign};
use crate::elements::DTYPES;
use crate::state_dict::{self, Storages};
use modelferry_core::Result;
use modelferry_core::layout::Layout;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::ModelView;
use modelferry_core::options::{OptionKind, OptionSpec};
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_hf::output;

/// The PyTorch writer.
#[derive(Clone, Copy, Debug)]
pub struct PytorchWriter;

static INFO: WriterInfo = WriterInfo {
    format: "pytorch",
    about: "PyTorch checkpoints as torch.save writes them, single or sharded with an index",
    extensions: &[".bin.index.json", ".ckpt", ".bin", ".pth", ".pt"],
    place: Place::File,
    options: &[OptionSpec {
        name: "foreign-objects",
        kind: OptionKind::Choice(&["drop", "keep"]),
        default: "drop",
        help: "objects in a nested checkpoint that torch.load refuses unless told to trust their classes",
    }],
    dtypes: &DTYPES,
    max_rank: usize::MAX,
    max_tensors: u64::MAX,
    names: Carries::Yes,
    ties: Carries::Yes,
    metadata: MetadataForm::None,
    tree: Carries::Yes,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::Yes,
};

impl Writer for PytorchWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut losses = vec![];
        let mut layout = Layout::default();
        let first_of = view.storages();
        let shards = output::distribute(view, request.shards, (0..first_of.len()).collect());
        let n_shards = shards.len();
        let mut storages = Storages::new(view, &first_of);
        let mut document = None;
        if let Some(tree) = view.tree() {
            if n_shards > 1 {
                losses.extend(document::flattened(tree));
            } else {
                let foreign = match request.options.get("foreign-objects") {
                    Some("keep") => Foreign::Keep,
                    _ => Foreign::Drop,
                };
                document = document::pickle(tree, foreign, &mut storages, &mut losses)?;
            }
        }
        let mut file_of = vec![0; first_of.len()];
        let mut total_size = 0u64;
        for (idx, tensors) in shards.into_iter().enumerate() {
            let pickle = match document.take() {
                Some(pickle) => pickle,
                None => state_dict::pickle(&tensors, &mut storages)?,
            };
            tensors.iter().for_each(|&tensor| file_of[tensor] = layout.files.len());
            let in_use = storages.end_file();
            let bytes = in_use.iter().map(|&idx| view.tensor(idx).byte_len());
            total_size = bytes.fold(total_size, u64::saturating_add);
            archive::push(
                &mut layout,
                view,
                &output::path(request.file_name, idx, n_shards),
                pickle,
                &in_use,
            )?;
        }
        if !storages.written().is_sorted() {
            let detail = match n_shards {
                1 => "tensors are read back in the order in which the checkpoint holds them",
                _ => "tensors are read back shard by shard, and large ones have shards of their own",
            };
            losses.push(Loss::declared(LossKind::Order, request.file_name, detail));
        }
        if n_shards > 1 {
            output::push_index(&mut layout, view, request.file_name, &file_of, total_size)?;
        }
        Ok((layout, losses))
    }
}

#[cfg(test)]
mod tests;
