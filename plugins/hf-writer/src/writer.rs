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
        layout.root = layout.append(weights);
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

/// Refuses files of the model, which are the first `n_assets` of the layout, whose names come from a stranger's folder
/// and lead out of ours, or are those of other files or of folders around them.
fn check_names(layout: &Layout, n_assets: usize) -> Result<()> {
    let mut taken: HashSet<&str> = layout.paths().skip(n_assets).collect();
    for path in layout.paths().take(n_assets) {
        let refused = |what: &'static str| Err(Error::target(what).file(path));
        if path.contains('\0') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refused("a file of the model has a name that leads out of its folder");
        }
        if !taken.insert(path) {
            return refused("a file of the model has the name of another that is written");
        }
    }
    let folders = |path: &str| path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    for path in layout.paths() {
        if folders(path).into_iter().any(|at| taken.contains(&path[..at])) {
            return Err(Error::target("a file of the model lies in a folder that is a file").file(path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
