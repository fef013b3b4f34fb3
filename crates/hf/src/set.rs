//! Several files that an index joins to one model, whatever their format.

use crate::index;
use crate::shard_name::ShardName;
use crate::weights::is_index_name;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Check, Model};
use modelferry_core::options::{OptionKind, OptionSpec, Options};
use modelferry_core::plugin::Verdict;
use modelferry_core::{Error, Result};
use std::collections::{HashMap, HashSet};

/// How many indexes beside a file are looked at for its name.
const MAX_OTHER_INDEXES: usize = 8;

/// The option of every reader of sharded files.
pub const SHARDS: OptionSpec = OptionSpec {
    name: "shards",
    kind: OptionKind::Choice(&["set", "alone"]),
    default: "set",
    help: "a file named like one of several shards stands for the whole set, or for itself alone",
};

/// Bytes of an index that are looked at. Its keys are sorted, so `metadata` and the first file names come early.
const INDEX_PREFIX: usize = 4096;

/// Whether the root file looks like an index of files with this ending, given with its dot; `None` where its name is
/// not that of an index. Reads a few kilobytes.
pub fn is_index_of(inputs: &dyn Inputs, ending: &str) -> Option<Verdict> {
    let root = inputs.root();
    let name = inputs.name(root);
    if !is_index_name(&name) {
        return None;
    }
    let mut prefix = vec![0; INDEX_PREFIX.min(inputs.len(root) as usize)];
    let is_json = inputs.read_at(root, 0, &mut prefix).is_ok()
        && prefix.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let pattern = format!("{ending}\"");
    let names_such = || prefix.windows(pattern.len()).any(|window| window == pattern.as_bytes());
    Some(match () {
        () if is_json && names_such() => Verdict::Content,
        () if name.ends_with(&format!("{ending}.index.json")) => Verdict::Name,
        () => Verdict::No,
    })
}

/// Reads one shard: adds to the model those tensors that the function takes.
pub type AddShard<'a> =
    dyn FnMut(&mut Model, FileId, &mut dyn FnMut(&str) -> Result<bool>) -> Result<()> + 'a;

/// The files of one model and, where there is an index, which tensor each of them holds.
pub struct Set {
    files: Vec<String>,
    index: Option<Named>,
}

/// What an index says.
struct Named {
    /// The index's own name.
    name: String,
    /// The shard of each tensor, as its place in [`Set::files`].
    shard_of: HashMap<String, u32>,
    /// What it says the tensors' bytes are together: the text of its entry, and the number if it is one.
    total_size: Option<(String, Option<u64>)>,
}

impl Set {
    /// The set that the root file stands for: an index stands for its files, a shard for its index, or for its
    /// siblings where there is none. `None` for a file that stands for itself.
    pub fn find(inputs: &dyn Inputs, options: &Options, limits: &Limits) -> Result<Option<Set>> {
        let root = inputs.root();
        let name = inputs.name(root);
        if is_index_name(&name) {
            return Set::from_index(inputs, root, limits).map(Some);
        }
        if options.get("shards") == Some("alone") {
            return Ok(None);
        }
        let there = inputs.list("")?;
        let shard = ShardName::parse(&name).filter(|shard| shard.n_shards > 1);
        let own_index = shard.as_ref().map(ShardName::index_name);
        let is_own = |index: &&String| Some(*index) == own_index.as_ref();
        // The index of this name first, then whatever index lists the file: shards need not be numbered.
        let others = there.iter().filter(|file| is_index_name(file) && !is_own(file)).take(MAX_OTHER_INDEXES);
        for index_name in there.iter().filter(is_own).chain(others) {
            let index = match inputs.open(index_name) {
                Err(error) if is_own(&index_name) => return Err(error),
                Err(_) => continue,
                Ok(index) => index,
            };
            match Set::from_index(inputs, index, limits) {
                Ok(set) if set.files.contains(&name) => return Ok(Some(set)),
                // A stale index, or another program's, says nothing about this file.
                Err(error) if is_own(&index_name) => return Err(error),
                _ => inputs.release(index),
            }
        }
        let Some(shard) = shard else { return Ok(None) };
        Limits::check("the set has too many files", shard.n_shards as u64, limits.files)
            .map_err(|error| error.file(&name))?;
        let files: Vec<String> = shard.siblings().collect();
        if let Some(missing) = files.iter().find(|file| !there.contains(file)) {
            return Err(Error::malformed("this is one shard of a set that is not complete")
                .file(&name)
                .expected(format_args!(
                    "{} or {} beside it",
                    missing.escape_debug(),
                    shard.index_name().escape_debug()
                ))
                .found("neither")
                .hint("pass --shards alone to take this file for itself"));
        }
        Ok(Some(Set { files, index: None }))
    }

    fn from_index(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Set> {
        let index = index::parse(inputs, file, limits)?;
        if index.weights.is_empty() {
            return Err(Error::malformed("the index names no tensor").file(inputs.name(file)));
        }
        let text = index.metadata.iter().find(|(key, _)| key == index::TOTAL_SIZE);
        let total_size = text.map(|(_, text)| (text.clone(), index.total_size()));
        let shard_of = index.weights.into_iter().collect();
        let named = Named { name: inputs.name(file), shard_of, total_size };
        Ok(Set { files: index.files, index: Some(named) })
    }

    /// Adds the tensors of every shard to the model, in the order of file names, which is that of the set's numbers.
    ///
    /// Errors: a shard that is not there; a tensor that is not where the index says, or twice; those of `add`.
    pub fn read(mut self, inputs: &dyn Inputs, model: &mut Model, add: &mut AddShard<'_>) -> Result<()> {
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.sort_by_key(|&idx| &self.files[idx]);
        let mut unnamed = vec![];
        for shard in order {
            let name = &self.files[shard];
            let file = inputs.open(name).map_err(|error| match &self.index {
                Some(index) => error.hint(format!("named by {}", index.name.escape_debug())),
                None => error,
            })?;
            add(model, file, &mut |tensor| {
                let Some(index) = &mut self.index else { return Ok(true) };
                match index.shard_of.remove(tensor) {
                    Some(stated) if stated as usize == shard => Ok(true),
                    Some(stated) => {
                        Err(Error::malformed("the index says that another file holds this tensor")
                            .file(&index.name)
                            .tensor(tensor)
                            .expected(name.escape_debug())
                            .found(self.files[stated as usize].escape_debug()))
                    }
                    // Not named by the index: transformers loads it all the same. Or taken by an earlier shard.
                    None => {
                        unnamed.push((tensor.to_owned(), shard));
                        Ok(true)
                    }
                }
            })?;
        }
        if let Some(index) = &self.index
            && let Some((tensor, &shard)) = index.shard_of.iter().min()
        {
            return Err(Error::malformed("the index names a tensor that its file does not hold")
                .file(&index.name)
                .tensor(tensor)
                .expected(format_args!("it in {}", self.files[shard as usize].escape_debug())));
        }
        let mut twice: HashSet<&str> = HashSet::new();
        if !unnamed.is_empty() {
            let mut names = HashSet::with_capacity(model.tensors.len());
            twice
                .extend(model.tensors.iter().map(|tensor| &*tensor.name).filter(|name| !names.insert(*name)));
        }
        if let Some((tensor, shard)) = unnamed.iter().find(|(tensor, _)| twice.contains(tensor.as_str())) {
            return Err(Error::malformed("two shards hold this tensor")
                .file(&self.files[*shard])
                .tensor(tensor));
        }
        if let Some(Named { name, total_size: Some((text, stated)), .. }) = self.index {
            let bytes =
                model.tensors.iter().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.byte_len()));
            model.checks.push(Check {
                file: name,
                fault: "metadata.total_size is not the sum of the tensors' bytes",
                expected: bytes.to_string(),
                found: stated.map_or(text, |stated| stated.to_string()),
                holds: stated == Some(bytes),
            });
        }
        Ok(())
    }
}
