//! What lies in a model's folder, sorted by what it is.

use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use modelferry_core::{Error, Result};
use modelferry_hf::weights::{Role, folder_role, role};

/// The files of a folder, by their paths in it.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// The files of the folder itself, whatever they are.
    pub(crate) names: Vec<String>,
    /// Everything below the folder with its role, in the order of paths; `PATH/` for a folder that is of one role as a
    /// whole. Strangers are left out.
    pub(crate) members: Vec<(String, Role)>,
}

impl Folder {
    /// Lists the folder and those in it. No file is opened.
    ///
    /// Errors: [`Limit`](modelferry_core::ErrorKind::Limit) for the number of files and for nesting.
    pub(crate) fn list(inputs: &dyn Inputs, limits: &Limits) -> Result<Folder> {
        let mut found = Folder::default();
        let mut n_seen = 0;
        let mut waiting = vec![(String::new(), 1)];
        while let Some((folder, depth)) = waiting.pop() {
            let named = |error: Error| if folder.is_empty() { error } else { error.file(&folder) };
            Limits::check("folders are nested too deeply", depth, limits.depth as u64).map_err(named)?;
            let names = inputs.list(&folder)?;
            n_seen += names.len() as u64;
            Limits::check("the folder holds too many files", n_seen, limits.files).map_err(named)?;
            for name in names {
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                match path.strip_suffix('/') {
                    Some(below) => match folder_role(below) {
                        None => waiting.push((below.to_owned(), depth + 1)),
                        Some(Role::Stranger) => {}
                        Some(role) => found.members.push((path, role)),
                    },
                    None => {
                        let role = role(&path);
                        if role != Role::Stranger {
                            found.members.push((path.clone(), role));
                        }
                        if folder.is_empty() {
                            found.names.push(path);
                        }
                    }
                }
            }
        }
        found.members.sort();
        Ok(found)
    }
}
