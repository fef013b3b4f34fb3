//! Files of the source that an output can point into.

use modelferry_core::inputs::FileId;
use modelferry_core::{Error, Result};
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::io::{FileKind, Follow, Io, look};
use std::path::{Path, PathBuf};

/// The files of the source, as seen from an output.
#[derive(Clone, Copy)]
pub(crate) struct Links<'a> {
    pub(crate) inputs: &'a DiskInputs,
    /// The output as the user named it.
    pub(crate) output: &'a Path,
    /// Whether that is a folder.
    pub(crate) is_folder: bool,
}

impl Links<'_> {
    /// The path of a file of the source relative to the output's folder.
    ///
    /// Errors: [`Usage`](modelferry_core::ErrorKind::Usage) for one that is not there or below, links resolved, or has
    /// other hard links: what readers of such outputs refuse, for it may lead anywhere.
    pub(crate) fn path(&self, io: &dyn Io, file: FileId) -> Result<String> {
        let shown = self.inputs.path(file);
        let resolved = |path: &Path| -> Result<PathBuf> {
            io.canonicalize(path).map_err(|error| Error::io("resolving its path", error).file(path.display()))
        };
        let folder = if self.is_folder { self.output } else { self.output.parent().unwrap_or(self.output) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let (real, real_folder) = (resolved(&shown)?, resolved(folder)?);
        let Ok(below) = real.strip_prefix(&real_folder) else {
            let error =
                Error::usage("the file does not lie in the output's folder, so nothing can point into it")
                    .file(shown.display())
                    .expected(format_args!("a file in {} or below", folder.display()))
                    .hint("write the output beside it, or leave out --link");
            let is_link = look(io, &shown, Follow::No)?.is_some_and(|stat| stat.kind == FileKind::Link);
            return Err(match is_link {
                true => error.found(format_args!("a link to {}", real.display())),
                false => error,
            });
        };
        let n_names = look(io, &real, Follow::No)?.map_or(0, |stat| stat.n_names);
        if n_names != 1 {
            return Err(Error::usage("the file has several hard links, and programs refuse to follow those")
                .file(shown.display())
                .found(format_args!("{n_names} names"))
                .hint("copy it, or leave out --link"));
        }
        below.to_str().map(str::to_owned).ok_or_else(|| {
            Error::usage("the file's name is not UTF-8, so nothing can point into it").file(shown.display())
        })
    }
}
