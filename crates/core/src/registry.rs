//! The readers and writers that are there.

use crate::error::{Error, Result};
use crate::plugin::{Reader, Writer};

/// The readers and writers that are there, in the order they were added.
///
/// Each plugin crate exposes one registration function and one place calls them; start-up constructors were rejected
/// because linkers drop them from static builds.
#[derive(Default)]
pub struct Registry {
    readers: Vec<Box<dyn Reader>>,
    writers: Vec<Box<dyn Writer>>,
}

impl Registry {
    /// Adds a reader.
    pub fn add_reader(&mut self, reader: impl Reader + 'static) {
        self.readers.push(Box::new(reader));
    }

    /// Adds a writer.
    pub fn add_writer(&mut self, writer: impl Writer + 'static) {
        self.writers.push(Box::new(writer));
    }

    /// Keeps the readers and the writers of those formats only for which these say yes: another takes their place.
    pub fn retain(&mut self, reader: impl Fn(&str) -> bool, writer: impl Fn(&str) -> bool) {
        self.readers.retain(|known| reader(known.info().format));
        self.writers.retain(|known| writer(known.info().format));
    }

    /// Every reader.
    pub fn readers(&self) -> impl Iterator<Item = &dyn Reader> {
        self.readers.iter().map(|reader| &**reader)
    }

    /// Every writer.
    pub fn writers(&self) -> impl Iterator<Item = &dyn Writer> {
        self.writers.iter().map(|writer| &**writer)
    }

    /// The reader of `format`. Errors: [`Usage`](crate::error::ErrorKind::Usage), listing what is there.
    pub fn reader(&self, format: &str) -> Result<&dyn Reader> {
        self.readers().find(|reader| reader.info().format == format).ok_or_else(|| {
            let known: Vec<_> = self.readers().map(|reader| reader.info().format).collect();
            Error::usage("no reader for this format").expected(known.join(", ")).found(format)
        })
    }

    /// The writer of `format`. Errors: [`Usage`](crate::error::ErrorKind::Usage), listing what is there.
    pub fn writer(&self, format: &str) -> Result<&dyn Writer> {
        self.writers().find(|writer| writer.info().format == format).ok_or_else(|| {
            let known: Vec<_> = self.writers().map(|writer| writer.info().format).collect();
            Error::usage("no writer for this format").expected(known.join(", ")).found(format)
        })
    }

    /// The writer whose extension ends `file_name`; the longest such extension wins.
    pub fn writer_for(&self, file_name: &str) -> Option<&dyn Writer> {
        let fit = |writer: &&dyn Writer| {
            let ends = writer.info().extensions.iter().filter(|extension| file_name.ends_with(**extension));
            ends.map(|extension| extension.len()).max()
        };
        self.writers().filter(|writer| fit(writer).is_some()).max_by_key(fit)
    }
}
