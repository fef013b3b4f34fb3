//! Several files that an index joins to one model.

use crate::reader::{add_metadata, add_tensors};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Check, Model};
use modelferry_core::options::Options;
use modelferry_core::{Error, Result};
use modelferry_hf::index;
use modelferry_hf::shard_name::ShardName;
use modelferry_hf::weights::is_index_name;
use modelferry_wire::safetensors::parse_header;
use std::collections::{HashMap, HashSet};

/// How many indexes beside a file are looked at for its name.
const MAX_OTHER_INDEXES: usize = 8;

/// The files of one model and, where there is an index, which tensor each of them holds.
pub(crate) struct Set {
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
    pub(crate) fn find(inputs: &dyn Inputs, options: &Options, limits: &Limits) -> Result<Option<Set>> {
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

    /// Reads every shard's header in the order of file names, which is that of the set's numbers.
    pub(crate) fn read(mut self, inputs: &dyn Inputs, limits: &Limits, model: &mut Model) -> Result<()> {
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.sort_by_key(|&idx| &self.files[idx]);
        let mut unnamed = vec![];
        for shard in order {
            let name = &self.files[shard];
            let file = inputs.open(name).map_err(|error| match &self.index {
                Some(index) => error.hint(format!("named by {}", index.name.escape_debug())),
                None => error,
            })?;
            let header = parse_header(inputs, file, limits)?;
            add_tensors(model, inputs, file, &header, &mut |tensor| {
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
            add_metadata(model, header);
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
