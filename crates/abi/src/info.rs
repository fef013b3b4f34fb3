//! What a reader or a writer says of itself, as JSON: in the library, and in the manifest beside it.

use crate::names::{dtype_of_text, dtype_text, lasting};
use modelferry_core::options::{OptionKind, OptionSpec};
use modelferry_core::plugin::{Carries, Magic, MetadataForm, Place, ReaderInfo, WriterInfo};
use modelferry_core::{DType, Error, Result};
use serde::{Deserialize, Serialize};

/// A reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReaderText {
    /// Short name, as in `--from`.
    pub format: String,
    /// One line for a person.
    pub about: String,
    /// File name endings, with their dot where they have one.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Bytes of which a file of the format holds one sequence. A file with neither them nor one of the endings is not
    /// shown to the library.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub magic: Vec<MagicText>,
    /// `file` or `folder`.
    #[serde(default)]
    pub place: PlaceText,
    /// Its options.
    #[serde(default)]
    pub options: Vec<OptionText>,
}

/// Bytes that tell a format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MagicText {
    /// Offset of the first.
    #[serde(default)]
    pub at: u64,
    /// The bytes, in hexadecimal.
    pub hex: String,
}

/// A writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriterText {
    /// Short name, as in `--to`.
    pub format: String,
    /// One line for a person.
    pub about: String,
    /// File name endings, with their dot.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// `file` or `folder`.
    #[serde(default)]
    pub place: PlaceText,
    /// Its options.
    #[serde(default)]
    pub options: Vec<OptionText>,
    /// Types it stores exactly, by their names.
    pub dtypes: Vec<String>,
    /// Most dimensions a tensor may have.
    pub max_rank: u64,
    /// Most tensors one output may hold.
    #[serde(default = "all")]
    pub max_tensors: u64,
    /// Whether tensors have names.
    #[serde(default = "yes")]
    pub names: bool,
    /// Whether two names may stand for one storage.
    #[serde(default)]
    pub ties: bool,
    /// `none`, `text` or `typed`.
    #[serde(default)]
    pub metadata: MetadataText,
    /// Whether nested values are kept.
    #[serde(default)]
    pub tree: bool,
    /// Whether programs of the same format are kept.
    #[serde(default)]
    pub graph: bool,
    /// Whether the config is kept.
    #[serde(default)]
    pub config: bool,
    /// Whether files that hold no weights are kept.
    #[serde(default)]
    pub assets: bool,
    /// Whether there can be several files.
    #[serde(default)]
    pub shards: bool,
}

fn all() -> u64 {
    u64::MAX
}

fn yes() -> bool {
    true
}

/// What a format's models are on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum PlaceText {
    #[default]
    File,
    Folder,
}

/// What metadata a format holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum MetadataText {
    #[default]
    None,
    Text,
    Typed,
}

/// A declared option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionText {
    /// Name, as in `--NAME VALUE`.
    pub name: String,
    /// `bool`, `int`, `text` or `choice`.
    pub kind: KindText,
    /// Of a choice, what there is to choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Default, in the form the user would type; empty for none.
    #[serde(default)]
    pub default: String,
    /// One line of help.
    pub help: String,
}

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum KindText {
    Bool,
    Int,
    Text,
    Choice,
}

impl PlaceText {
    fn of(place: Place) -> PlaceText {
        if place == Place::Folder { PlaceText::Folder } else { PlaceText::File }
    }

    fn place(self) -> Place {
        if self == PlaceText::Folder { Place::Folder } else { Place::File }
    }
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

fn lasting_texts(items: &[String]) -> &'static [&'static str] {
    Box::leak(items.iter().map(|item| lasting(item)).collect())
}

impl OptionText {
    fn of(spec: &OptionSpec) -> OptionText {
        let (kind, choices) = match spec.kind {
            OptionKind::Bool => (KindText::Bool, vec![]),
            OptionKind::Int => (KindText::Int, vec![]),
            OptionKind::Text => (KindText::Text, vec![]),
            OptionKind::Choice(choices) => (KindText::Choice, texts(choices)),
        };
        let [name, default, help] = [spec.name, spec.default, spec.help].map(str::to_owned);
        OptionText { name, kind, choices, default, help }
    }

    fn spec(&self) -> OptionSpec {
        let kind = match self.kind {
            KindText::Bool => OptionKind::Bool,
            KindText::Int => OptionKind::Int,
            KindText::Text => OptionKind::Text,
            KindText::Choice => OptionKind::Choice(lasting_texts(&self.choices)),
        };
        OptionSpec {
            name: lasting(&self.name),
            kind,
            default: lasting(&self.default),
            help: lasting(&self.help),
        }
    }
}

fn specs(options: &[OptionText]) -> &'static [OptionSpec] {
    Box::leak(options.iter().map(OptionText::spec).collect())
}

/// A format's name is what users type, and part of file names.
fn check_format(format: &str) -> Result<()> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    match !format.is_empty() && format.len() <= 64 && format.bytes().all(is_plain) {
        true => Ok(()),
        false => {
            Err(Error::plugin("a format's name is not made of small letters, digits, - and _").found(format))
        }
    }
}

impl ReaderText {
    /// What a reader of ours says.
    pub fn of(info: &ReaderInfo) -> ReaderText {
        ReaderText {
            format: info.format.to_owned(),
            about: info.about.to_owned(),
            extensions: texts(info.extensions),
            magic: info.magic.iter().map(MagicText::of).collect(),
            place: PlaceText::of(info.place),
            options: info.options.iter().map(OptionText::of).collect(),
        }
    }

    /// The same for the program, for as long as the process lives.
    ///
    /// Errors: a name that is none, bytes that are none.
    pub fn lasting(&self) -> Result<&'static ReaderInfo> {
        check_format(&self.format)?;
        Ok(Box::leak(Box::new(ReaderInfo {
            format: lasting(&self.format),
            about: lasting(&self.about),
            extensions: lasting_texts(&self.extensions),
            magic: Box::leak(self.magic.iter().map(MagicText::magic).collect::<Result<_>>()?),
            place: self.place.place(),
            options: specs(&self.options),
        })))
    }
}

impl MagicText {
    fn of(magic: &Magic) -> MagicText {
        MagicText { at: magic.at, hex: magic.bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    fn magic(&self) -> Result<Magic> {
        /// More is a mistake, and would be read for every file.
        const MOST: usize = 256;
        let (pairs, rest) = self.hex.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        match bytes.filter(|bytes| rest.is_empty() && (1..=MOST).contains(&bytes.len())) {
            Some(bytes) => Ok(Magic { at: self.at, bytes: bytes.leak() }),
            None => Err(Error::plugin("bytes that tell a format are not hexadecimal").found(&self.hex)),
        }
    }
}

impl WriterText {
    /// What a writer of ours says.
    pub fn of(info: &WriterInfo) -> WriterText {
        let is = |carries: Carries| carries == Carries::Yes;
        WriterText {
            format: info.format.to_owned(),
            about: info.about.to_owned(),
            extensions: texts(info.extensions),
            place: PlaceText::of(info.place),
            options: info.options.iter().map(OptionText::of).collect(),
            dtypes: info.dtypes.iter().map(|dtype| dtype_text(*dtype)).collect(),
            max_rank: info.max_rank as u64,
            max_tensors: info.max_tensors,
            names: is(info.names),
            ties: is(info.ties),
            metadata: match info.metadata {
                MetadataForm::None => MetadataText::None,
                MetadataForm::Text => MetadataText::Text,
                MetadataForm::Typed => MetadataText::Typed,
            },
            tree: is(info.tree),
            graph: is(info.graph),
            config: is(info.config),
            assets: is(info.assets),
            shards: is(info.shards),
        }
    }

    /// The same for the program, for as long as the process lives.
    ///
    /// Errors: a name that is none, an element type that is not known here.
    pub fn lasting(&self) -> Result<&'static WriterInfo> {
        check_format(&self.format)?;
        let carries = |is: bool| if is { Carries::Yes } else { Carries::No };
        let dtypes: Vec<DType> = self.dtypes.iter().map(|name| dtype_of_text(name)).collect::<Result<_>>()?;
        Ok(Box::leak(Box::new(WriterInfo {
            format: lasting(&self.format),
            about: lasting(&self.about),
            extensions: lasting_texts(&self.extensions),
            place: self.place.place(),
            options: specs(&self.options),
            dtypes: Box::leak(dtypes.into_boxed_slice()),
            max_rank: usize::try_from(self.max_rank).unwrap_or(usize::MAX),
            max_tensors: self.max_tensors,
            names: carries(self.names),
            ties: carries(self.ties),
            metadata: match self.metadata {
                MetadataText::None => MetadataForm::None,
                MetadataText::Text => MetadataForm::Text,
                MetadataText::Typed => MetadataForm::Typed,
            },
            tree: carries(self.tree),
            graph: carries(self.graph),
            config: carries(self.config),
            assets: carries(self.assets),
            shards: carries(self.shards),
        })))
    }
}

/// Reads what a library says of its reader or writer.
///
/// Errors: text that is not of the published schema.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::plugin("what it says of itself is not of the published schema").source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives() {
        let options = &[
            OptionSpec { name: "level", kind: OptionKind::Int, default: "3", help: "how much" },
            OptionSpec { name: "how", kind: OptionKind::Choice(&["a", "b"]), default: "", help: "which" },
        ];
        let reader = ReaderInfo {
            format: "flat",
            about: "flat files",
            extensions: &[".flat"],
            magic: &[Magic { at: 4, bytes: b"\x00f" }],
            place: Place::Folder,
            options,
        };
        let text = serde_json::to_string(&ReaderText::of(&reader)).unwrap();
        let found = parse::<ReaderText>(&text).unwrap().lasting().unwrap();
        assert_eq!(format!("{found:?}"), format!("{reader:?}"));

        const TYPES: &[DType] = &[DType::F32, DType::Opaque { elements: 2, bytes: 3 }];
        let writer = WriterInfo {
            format: "flat",
            about: "flat files",
            extensions: &[".flat"],
            place: Place::File,
            options,
            dtypes: TYPES,
            max_rank: 4,
            max_tensors: u64::MAX,
            names: Carries::Yes,
            ties: Carries::No,
            metadata: MetadataForm::Typed,
            tree: Carries::No,
            graph: Carries::Yes,
            config: Carries::No,
            assets: Carries::No,
            shards: Carries::Yes,
        };
        let text = serde_json::to_string(&WriterText::of(&writer)).unwrap();
        let found = parse::<WriterText>(&text).unwrap().lasting().unwrap();
        assert_eq!(format!("{found:?}"), format!("{writer:?}"));
    }

    #[test]
    fn little_has_to_be_said() {
        let text = r#"{"format": "flat", "about": "", "dtypes": ["f32"], "max_rank": 4}"#;
        let found = parse::<WriterText>(text).unwrap().lasting().unwrap();
        assert_eq!((found.names, found.max_tensors, found.ties), (Carries::Yes, u64::MAX, Carries::No));
        for wrong in [
            r#"{"format": "flat"}"#,
            "[",
            r#"{"format": "a", "about": "", "dtypes": ["f99"], "max_rank": 1}"#,
        ] {
            assert!(
                parse::<WriterText>(wrong).and_then(|text| text.lasting().map(|_| ())).is_err(),
                "{wrong}"
            );
        }
        let named = |format: &str| ReaderText {
            format: format.to_owned(),
            ..parse(r#"{"format": "", "about": ""}"#).unwrap()
        };
        for wrong in ["", "../x", "A", "a b"] {
            assert!(named(wrong).lasting().is_err(), "{wrong}");
        }
    }
}
