//! Which readers and writers are judged: all that are there, or those of some formats beside others that only help.

use super::Suite;
use super::fixtures::Fixture;
use modelferry_core::plugin::{Reader, Writer, WriterInfo};

/// The formats of the readers and writers that are judged.
///
/// The others of a registry are there so that pairs exist: something to convert to, something that reads what was
/// written, somebody else's files to decline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Formats whose readers are judged.
    pub readers: Vec<String>,
    /// Formats whose writers are judged.
    pub writers: Vec<String>,
}

impl Suite<'_> {
    /// Whether the reader of a format is judged.
    pub(super) fn judges_reader(&self, format: &str) -> bool {
        self.options.judged.as_ref().is_none_or(|judged| judged.readers.iter().any(|known| known == format))
    }

    /// Whether the writer of a format is judged.
    pub(super) fn judges_writer(&self, format: &str) -> bool {
        self.options.judged.as_ref().is_none_or(|judged| judged.writers.iter().any(|known| known == format))
    }

    /// Whether a conversion has a judged reader or a judged writer.
    pub(super) fn judges_pair(&self, fixture: &Fixture, info: &WriterInfo) -> bool {
        self.judges_reader(fixture.format) || self.judges_writer(info.format)
    }

    /// Whether everything is judged, what stands behind readers and writers too.
    pub(super) fn judges_all(&self) -> bool {
        self.options.judged.is_none()
    }

    /// Whether a reader is judged.
    pub(super) fn has_reader(&self) -> bool {
        self.judges_all() || self.judged_readers().next().is_some()
    }

    /// Whether a writer is judged.
    pub(super) fn has_writer(&self) -> bool {
        self.judges_all() || self.judged_writers().next().is_some()
    }

    /// The readers that are judged.
    pub(super) fn judged_readers(&self) -> impl Iterator<Item = &dyn Reader> {
        self.registry.readers().filter(|reader| self.judges_reader(reader.info().format))
    }

    /// The writers that are judged.
    pub(super) fn judged_writers(&self) -> impl Iterator<Item = &dyn Writer> {
        self.registry.writers().filter(|writer| self.judges_writer(writer.info().format))
    }

    /// The files that judged readers take.
    pub(super) fn judged_fixtures(&self) -> impl Iterator<Item = &Fixture> {
        self.fixtures.iter().filter(|fixture| self.judges_reader(fixture.format))
    }
}
