//! What a format plugin implements, and what it may ask for.
//!
//! A plugin holds no I/O: a [`Reader`] looks at [`Inputs`](crate::inputs::Inputs) and returns a description, a
//! [`Writer`] takes one and returns a layout. Call order: `identify* → read` and `layout`.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::expr::NodeId;
use crate::inputs::{FileId, Inputs};
use crate::layout::Layout;
use crate::limits::Limits;
use crate::loss::Loss;
use crate::model::{Model, ModelView};
use crate::options::{OptionSpec, Options};

/// What a reader says of a file it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Not this format.
    No,
    /// The name fits, the content says nothing either way.
    Name,
    /// The content fits: if it then fails to read, it is a broken file of this format.
    Content,
}

/// What a format's models are on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// A file, or several that a file stands for.
    #[default]
    File,
    /// A folder: the reader is asked about folders, and about the file in one that the user named.
    Folder,
}

/// A reader, described.
#[derive(Clone, Copy, Debug)]
pub struct ReaderInfo {
    /// Short name, as in `--from`.
    pub format: &'static str,
    /// One line for a person.
    pub about: &'static str,
    /// File name endings, with their dot where they have one, longest first.
    pub extensions: &'static [&'static str],
    /// What it reads.
    pub place: Place,
    /// Its options.
    pub options: &'static [OptionSpec],
}

/// Whether something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Kept.
    Yes,
    /// Dropped, and reported.
    No,
}

/// What metadata a format holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataForm {
    /// None; it is dropped, and reported.
    None,
    /// Keys with text. Values of other types are text before a writer of such sees them, or are gone, and reported.
    Text,
    /// Values with their types.
    Typed,
}

/// A writer, described: what it can represent. What a model holds beyond this is refused before the writer is asked.
#[derive(Clone, Copy, Debug)]
pub struct WriterInfo {
    /// Short name, as in `--to`.
    pub format: &'static str,
    /// One line for a person.
    pub about: &'static str,
    /// File name endings, with their dot, longest first.
    pub extensions: &'static [&'static str],
    /// What it writes. What a folder's weights can be is said by the writer of their format: capabilities of a
    /// [`Place::Folder`] writer speak of all that is not weights.
    pub place: Place,
    /// Its options.
    pub options: &'static [OptionSpec],
    /// Types it stores exactly.
    pub dtypes: &'static [DType],
    /// Most dimensions a tensor may have.
    pub max_rank: usize,
    /// Most tensors one output may hold.
    pub max_tensors: u64,
    /// Names of tensors. `No` for a format that holds one nameless tensor.
    pub names: Carries,
    /// Two names for one storage.
    pub ties: Carries,
    /// Keys and values.
    pub metadata: MetadataForm,
    /// Nested values that are not tensors.
    pub tree: Carries,
    /// The program around the tensors, where it is of this format.
    pub graph: Carries,
    /// The text of the model's config.
    pub config: Carries,
    /// Other files of the model's folder.
    pub assets: Carries,
    /// Several files with an index.
    pub shards: Carries,
}

impl WriterInfo {
    /// Whether it carries programs of this dialect: none but its own format's.
    pub fn carries_graph(&self, dialect: &str) -> bool {
        self.graph == Carries::Yes && self.format == dialect
    }
}

/// Turns files into a description.
pub trait Reader: Send + Sync {
    /// What it is.
    fn info(&self) -> &'static ReaderInfo;

    /// Whether the root file is of this format. Reads a bounded number of bytes, may look at both ends, and stays
    /// silent about what is simply something else.
    fn identify(&self, inputs: &dyn Inputs) -> Verdict;

    /// Reads headers, never payload; what it must know about payload it asks `host`.
    ///
    /// Errors name file, place, expected and found.
    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model>;
}

/// Turns a description into a layout.
pub trait Writer: Send + Sync {
    /// What it is.
    fn info(&self) -> &'static WriterInfo;

    /// The bytes of every output file, and what of the model they do not hold beyond what
    /// [`WriterInfo`] already says.
    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)>;

    /// The bytes of a file that was read from the single file of this format called `file_name`, and of which only
    /// metadata has changed since: what `edit` writes. Tensors stay in their order whatever the writer thinks of it,
    /// metadata too, and nothing of the writer's own is added. Where the model says how entries stand in the file
    /// ([`ModelView::entries`]), the whole file is its last asset.
    ///
    /// Errors: [`Unsupported`](crate::error::ErrorKind::Unsupported) from a writer that cannot promise this, as none
    /// does by default.
    fn relayout(&self, view: &ModelView<'_>, file_name: &str, host: &mut dyn Host) -> Result<Layout> {
        let _ = (view, file_name, host);
        Err(Error::unsupported("metadata of this format cannot be edited yet").format(self.info().format))
    }
}

/// What a writer is asked for besides the model.
#[derive(Clone, Debug)]
pub struct LayoutRequest<'a> {
    /// Name of the output file, without folder: `model.safetensors`. Shards derive theirs from it. For a folder, the
    /// folder's own name.
    pub file_name: &'a str,
    /// Format of the weights in a folder; empty for a file.
    pub weights: &'a str,
    /// Its declared options, defaults filled in.
    pub options: &'a Options,
    /// How many files.
    pub shards: Shards,
}

/// How tensors are spread over files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One file.
    One,
    /// Files of at most this many bytes of tensors, by the planning rule of huggingface_hub.
    Max(u64),
    /// As they were in the source.
    Keep,
}

/// What a plugin may use of the program around it.
pub trait Host {
    /// The limits in force.
    fn limits(&self) -> &Limits;

    /// Answers a question about payload, within limits. `model` is the one the node belongs to, possibly still being
    /// built. Questions and answers are recorded in the plan.
    fn ask(&mut self, model: &Model, query: Query) -> Result<Answer>;

    /// Reads the model that `root`, a file of the caller's inputs, is the root of: a model inside a model. Its
    /// expressions speak of the same files.
    ///
    /// Errors: no reader of files takes it; all that reading it can give.
    fn read(&mut self, inputs: &dyn Inputs, root: FileId) -> Result<Model> {
        let _ = (inputs, root);
        Err(Error::unsupported("a model inside a model cannot be read here"))
    }

    /// The path under which the output can speak of a file of the source, relative to the output's folder, `/` between
    /// folders.
    ///
    /// Errors: it does not lie in that folder or below, or under several names, which programs take for a trick.
    fn link(&mut self, file: FileId) -> Result<String> {
        let _ = file;
        Err(Error::unsupported("an output cannot point into its source here"))
    }

    /// Lays the model's tensors out as files of another format.
    ///
    /// Errors: no writer of files has that name; all that laying out can give.
    fn layout(
        &mut self,
        view: &ModelView<'_>,
        format: &str,
        request: &LayoutRequest<'_>,
    ) -> Result<(Layout, Vec<Loss>)> {
        let _ = (view, format, request);
        Err(Error::unsupported("a model inside a model cannot be written here"))
    }
}

/// A host that answers nothing: for plugins that have nothing to ask, and for their tests.
#[derive(Clone, Debug, Default)]
pub struct SilentHost(pub Limits);

impl Host for SilentHost {
    fn limits(&self) -> &Limits {
        &self.0
    }

    fn ask(&mut self, _: &Model, _: Query) -> Result<Answer> {
        Err(Error::unsupported("nobody answers questions here"))
    }
}

/// A question about payload.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Query {
    /// Are two sequences the same bytes?
    Equal(NodeId, NodeId),
    /// `len` items (at most 1 MiB) of a sequence from item `at` on, as bytes.
    Small {
        /// The sequence.
        node: NodeId,
        /// First item.
        at: u64,
        /// Number of items.
        len: u64,
    },
    /// Are all its bytes zero?
    AllZero(NodeId),
    /// The largest magnitude, as `f64`.
    AbsMax(NodeId),
    /// How many items are not zero.
    Nnz(NodeId),
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Query::Equal`] and [`Query::AllZero`].
    Bool(bool),
    /// To [`Query::Small`].
    Bytes(Vec<u8>),
    /// To [`Query::AbsMax`].
    Number(f64),
    /// To [`Query::Nnz`].
    Count(u64),
}
