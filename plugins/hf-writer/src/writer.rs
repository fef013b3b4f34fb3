//! Model -> the layout of its weights by their own writer, config and other files around it.

use modelferry_core::layout::{Layout, Piece};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::{Error, Result};
use modelferry_hf::config::{self, Config};
use modelferry_hf::weights;
use std::collections::HashSet;

/// The writer of model folders.
#[derive(Clone, Copy, Debug)]
pub struct HfWriter;

static INFO: WriterInfo = WriterInfo {
    format: "hf",
    about: "Hugging Face folders: weights of any format with config, tokenizer and other files",
    extensions: &[],
    place: Place::Folder,
    options: &[],
    // What tensors can be is said by the writer of the weights.
    dtypes: &[],
    max_rank: usize::MAX,
    max_tensors: u64::MAX,
    names: Carries::Yes,
    ties: Carries::Yes,
    metadata: MetadataForm::Typed,
    tree: Carries::Yes,
    graph: Carries::No,
    config: Carries::Yes,
    assets: Carries::Yes,
    shards: Carries::Yes,
};

/// The file that makes weights those of an adapter.
const ADAPTER_CONFIG: &str = "adapter_config.json";

impl Writer for HfWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let is_adapter = view.config().is_none() && view.assets().any(|(name, _)| name == ADAPTER_CONFIG);
        let (file_name, supersedes) = weights::names_to_write(request.weights, is_adapter);
        let weights_request = LayoutRequest { file_name: &file_name, weights: "", ..request.clone() };
        let (weights, mut losses) = host.layout(&view.weights(), request.weights, &weights_request)?;

        // Files are published in their order: what the config speaks of is there before it, and of a set the index
        // comes last, as its own writer has it.
        let mut layout = Layout { supersedes, ..Layout::default() };
        for (idx, (name, len)) in view.assets().enumerate() {
            layout.push_file(name, vec![Piece::Asset { idx, bytes: 0..len }]);
        }
        let n_assets = layout.files.len();
        layout.root = add_files(&mut layout, weights);
        match view.config() {
            Some(text) => {
                let parsed =
                    Config::parse(text, host.limits()).map_err(|error| error.file(config::FILE_NAME))?;
                let text = match parsed.without_explicit_weights() {
                    Some(text) => {
                        let detail = "transformers_weights named a file of the source, and is null now";
                        losses.push(Loss::declared(LossKind::Asset, config::FILE_NAME, detail));
                        text
                    }
                    None => text.to_owned(),
                };
                let pieces = vec![Piece::Bytes(text.into_bytes().into())];
                layout.root = layout.push_file(config::FILE_NAME, pieces);
            }
            None if is_adapter => {}
            None => {
                let detail = "there is none, and transformers needs one to load the folder";
                losses.push(Loss::declared(LossKind::Asset, config::FILE_NAME, detail));
            }
        }
        check_names(&layout, n_assets)?;
        Ok((layout, losses))
    }
}

/// Adds the files of another layout behind those that are there, and returns the place of its root.
fn add_files(layout: &mut Layout, added: Layout) -> usize {
    let n_before = layout.files.len();
    let n_digests = layout.digests.len();
    layout.files.extend(added.files);
    layout.supersedes.extend(added.supersedes);
    layout.notes.extend(added.notes);
    layout.links.extend(added.links);
    layout.digests.extend(added.digests.into_iter().map(|mut digest| {
        digest.over.file += n_before;
        digest
    }));
    layout.patches.extend(added.patches.into_iter().map(|mut patch| {
        patch.file += n_before;
        patch.digest += n_digests;
        patch
    }));
    added.root + n_before
}

/// Refuses files of the model, which are the first `n_assets` of the layout, whose names come from a stranger's folder
/// and lead out of ours, or are those of other files or of folders around them.
fn check_names(layout: &Layout, n_assets: usize) -> Result<()> {
    let (assets, own) = layout.files.split_at(n_assets.min(layout.files.len()));
    let mut taken: HashSet<&str> = own.iter().map(|file| file.path.as_str()).collect();
    for asset in assets {
        let refused = |what: &'static str| Err(Error::target(what).file(&asset.path));
        if asset.path.contains('\0') || asset.path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refused("a file of the model has a name that leads out of its folder");
        }
        if !taken.insert(&asset.path) {
            return refused("a file of the model has the name of another that is written");
        }
    }
    let folders = |path: &str| path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    for file in &layout.files {
        if folders(&file.path).into_iter().any(|at| taken.contains(&file.path[..at])) {
            return Err(Error::target("a file of the model lies in a folder that is a file").file(&file.path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
