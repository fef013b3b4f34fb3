//! A file, or several that an index joins, -> a model.

use crate::{document, identify};
use modelferry_core::inputs::{FileId, Inputs, Window};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Magic, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::tree::Tree;
use modelferry_core::{Error, Result};
use modelferry_hf::set::{SHARDS, Set};
use modelferry_wire::torch::{self, Kind};

/// The PyTorch reader.
#[derive(Clone, Copy, Debug)]
pub struct PytorchReader;

static INFO: ReaderInfo = ReaderInfo {
    format: "pytorch",
    about: "what torch saves, zip or legacy, and TorchScript, single or sharded; no pickle is ever run",
    extensions: identify::EXTENSIONS,
    magic: &[Magic { at: 0, bytes: b"PK" }, Magic { at: 0, bytes: b"\x80" }],
    place: Place::File,
    options: &[SHARDS],
};

impl Reader for PytorchReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        identify::identify(inputs)
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let mut model = Model::default();
        match Set::find(inputs, options, host.limits())? {
            None => {
                let tree = read_file(&mut model, inputs, inputs.root(), host)?;
                model.tree = Some(tree);
            }
            Some(set) => set.read(inputs, &mut model, &mut |model, file, wanted| {
                let first = model.tensors.len();
                let tree = read_file(model, inputs, file, host)?;
                must_be_flat(&tree, model.tensors.len() - first, inputs, file)?;
                for tensor in &model.tensors[first..] {
                    wanted(&tensor.name)?;
                }
                Ok(())
            })?,
        }
        // Two paths can be one name: `{"a.b": …, "a": {"b": …}}`.
        let named = |error: Error| error.file(inputs.name(inputs.root()));
        model.validate(host.limits()).map_err(named)?;
        Ok(model)
    }
}

fn read_file(model: &mut Model, inputs: &dyn Inputs, file: FileId, host: &mut dyn Host) -> Result<Tree> {
    let window = Window { file, at: 0, len: inputs.len(file) };
    let checkpoint = torch::read(inputs, window, host)?;
    let name = inputs.name(file);
    if matches!(checkpoint.kind, Kind::TorchScript | Kind::Exported) {
        let detail = "the program that the file holds is not carried, only its tensors";
        model.losses.push(Loss::declared(LossKind::Tree, "code", detail));
    }
    // A lone tensor has no name but the file's.
    let alone = name.rsplit('/').next().unwrap_or_default();
    let alone =
        identify::EXTENSIONS.iter().find_map(|extension| alone.strip_suffix(extension)).unwrap_or(alone);
    document::add(model, checkpoint, alone, &host.limits().clone()).map_err(|error| error.file(&name))
}

/// Shards of a model are dictionaries of tensors and nothing else: what else one holds would be lost.
fn must_be_flat(tree: &Tree, n_tensors: usize, inputs: &dyn Inputs, file: FileId) -> Result<()> {
    let members = tree.root().map(|root| tree.members(root)).unwrap_or_default();
    let n_flat = members.iter().filter(|(_, id)| tree.tensor(*id).is_some()).count();
    if n_flat == n_tensors && n_flat == members.len() {
        return Ok(());
    }
    Err(Error::unsupported("a shard of a set holds more than a flat dictionary of tensors")
        .file(inputs.name(file))
        .hint("pass --shards alone to take this file for itself"))
}
