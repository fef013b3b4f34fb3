//! What could not be read is an error, whatever a reader makes of it.

use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::{Error, ErrorKind, Result};
use std::sync::{Mutex, MutexGuard};

/// Calls `work` with `inputs`. If any of it could not be read, that is the result.
///
/// A reader that is asked whether a file is its own, or looks for an index that may not be there, takes an error for
/// a no: for a failing disk that would be another format, or half a model, without a word.
pub(crate) fn watched<T>(inputs: &dyn Inputs, work: impl FnOnce(&dyn Inputs) -> Result<T>) -> Result<T> {
    let watched = Watched { inputs, failure: Mutex::new(None) };
    let result = work(&watched);
    let failure = watched.failure().take();
    failure.map_or(result, Err)
}

/// Inputs that remember the first thing that could not be read.
struct Watched<'a> {
    inputs: &'a dyn Inputs,
    failure: Mutex<Option<Error>>,
}

impl Watched<'_> {
    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Keeps the error and hands on one that stands for it.
    fn note<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            if error.kind() != ErrorKind::Io {
                return error;
            }
            self.failure().get_or_insert(error);
            Error::new(ErrorKind::Io, "a file of the model cannot be read")
        })
    }
}

impl Inputs for Watched<'_> {
    fn root(&self) -> FileId {
        self.inputs.root()
    }

    fn open(&self, relative: &str) -> Result<FileId> {
        self.note(self.inputs.open(relative))
    }

    fn release(&self, file: FileId) {
        self.inputs.release(file);
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.note(self.inputs.list(folder))
    }

    fn name(&self, file: FileId) -> String {
        self.inputs.name(file)
    }

    fn len(&self, file: FileId) -> u64 {
        self.inputs.len(file)
    }

    fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        self.note(self.inputs.read_at(file, offset, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::inputs::MemInputs;

    /// A disk on which one file is damaged.
    struct Damaged(MemInputs);

    impl Inputs for Damaged {
        fn root(&self) -> FileId {
            self.0.root()
        }

        fn open(&self, relative: &str) -> Result<FileId> {
            self.0.open(relative)
        }

        fn list(&self, folder: &str) -> Result<Vec<String>> {
            self.0.list(folder)
        }

        fn name(&self, file: FileId) -> String {
            self.0.name(file)
        }

        fn len(&self, file: FileId) -> u64 {
            self.0.len(file)
        }

        fn read_at(&self, file: FileId, offset: u64, _: &mut [u8]) -> Result<()> {
            let error = Error::io("reading", std::io::Error::from_raw_os_error(5));
            Err(error.file(self.name(file)).offset(offset))
        }
    }

    #[test]
    fn an_error_of_the_disk_is_no_answer() {
        let inputs = Damaged(MemInputs::new("m", [0; 9]));
        let swallowed = watched(&inputs, |inputs| Ok(inputs.read_at(inputs.root(), 2, &mut [0]).is_ok()));
        let text = swallowed.unwrap_err().to_string();
        assert_eq!(text, "m: byte 2: reading: Input/output error (os error 5)");
        let missing = watched(&inputs, |inputs| Ok(inputs.open("other").is_ok()));
        assert!(!missing.unwrap(), "what is not there can be asked for");
    }
}
