//! What the user asks to be changed.

use crate::glob::Glob;
use crate::quantize::Quantize;
use modelferry_core::{DType, Error, Result};
use regex::Regex;

/// The edits of one conversion. The default changes nothing but strips wrapper prefixes.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// The part of a nested checkpoint to take, by its path; `.` is all of it. By default the one set of weights there
    /// is.
    pub select: Option<String>,
    /// Whether optimizer, scheduler and other state of the training is taken too.
    pub keep_optimizer: bool,
    /// Which names the tensors of a program have where the target does not carry it.
    pub names: Names,
    /// Source names to take; empty takes all.
    pub include: Vec<Glob>,
    /// Source names to leave out, after `include`.
    pub exclude: Vec<Glob>,
    /// What is cut off the front of names.
    pub strip_prefix: StripPrefix,
    /// Rewrites of names, in order, each over the result of the one before.
    pub rename: Vec<Rename>,
    /// Type that floating tensors are cast to.
    pub dtype: Option<DType>,
    /// Target names that keep their type whatever `dtype` and `quantize` say.
    pub keep_dtype: Vec<Glob>,
    /// What is quantized.
    pub quantize: Quantize,
    /// What becomes of ties.
    pub ties: Ties,
}

/// Which names the tensors of a program have where the target does not carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Those that they had before it was exported, as far as it shows them.
    #[default]
    Auto,
    /// The same, as the user asked for.
    Original,
    /// The program's own.
    Graph,
}

/// What is cut off the front of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StripPrefix {
    /// The prefixes that wrapper modules add, where every tensor bears them.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// This, from each tensor that bears it; at least one must.
    Prefix(String),
}

/// What becomes of two names for one storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// Kept where the target can, else written as copies.
    #[default]
    Auto,
    /// Kept, or the conversion is refused.
    Keep,
    /// Only the first name is written.
    Drop,
    /// Each name is written with bytes of its own.
    Copy,
}

impl Ties {
    /// The names of `--ties`.
    pub const NAMES: [&'static str; 4] = ["auto", "keep", "drop", "copy"];

    /// The choice named `name` in `--ties`.
    pub fn from_name(name: &str) -> Option<Ties> {
        let all = [Ties::Auto, Ties::Keep, Ties::Drop, Ties::Copy];
        Ties::NAMES.iter().position(|known| *known == name).map(|idx| all[idx])
    }
}

/// One `--rename REGEX=REPL`.
#[derive(Clone, Debug)]
pub struct Rename {
    pub(crate) text: String,
    pub(crate) regex: Regex,
    pub(crate) replacement: String,
}

impl Rename {
    /// Parses `REGEX=REPL`. The first `=` divides; one that belongs to the expression is written `[=]`. Every
    /// match in a name is replaced; `$1` and `${name}` in `REPL` stand for groups, `$$` for a dollar sign.
    ///
    /// Errors: [`Usage`](modelferry_core::ErrorKind::Usage). The expression runs in time linear in the name.
    pub fn parse(text: &str) -> Result<Rename> {
        // `(?<name>` and `[=]` contain no bare `=`, lookarounds (`(?=`) do not exist in this dialect.
        let divide = text
            .char_indices()
            .find(|&(at, c)| c == '=' && !(text[..at].ends_with('[') && text[at..].starts_with("=]")));
        let Some((at, _)) = divide else {
            return Err(Error::usage("--rename: no '=' between expression and replacement")
                .expected("REGEX=REPL")
                .found(text));
        };
        let regex = Regex::new(&text[..at]).map_err(|error| {
            // The library's message is a drawing of several lines; its last line says what is wrong.
            let reason =
                error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::usage(format!("--rename: unusable expression: {reason}")).found(&text[..at])
        })?;
        Ok(Rename { text: text.to_owned(), regex, replacement: text[at + 1..].to_owned() })
    }
}
