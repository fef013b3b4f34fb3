//! Text that reports on a run: promised by a layout, made of what the run has shown, published with the rest.
//!
//! A plan is complete before anything is written, so a [`Layout`] says what these files will be called and the most that
//! they can hold ([`Promise`]). Once all other bytes are written, and nothing that they have shown is refused, their
//! writer is given the [`Outcome`] and makes them ([`Writer::epilogue`](crate::plugin::Writer::epilogue)).

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::{Digest, Layout};
use crate::loss::Loss;
use crate::model::TensorIdx;
use std::ops::Range;

/// Bytes that a promised file has at most.
pub const MAX_BYTES: u64 = 1 << 20;
/// Files that a layout promises at most.
pub const MAX_FILES: usize = 16;

/// A file that reports on the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Relative path, `/` between folders. An earlier file of this name that is no longer promised, and would speak of
    /// files that are others now, belongs into [`Layout::supersedes`].
    pub path: String,
    /// Bytes that it has at most, up to [`MAX_BYTES`].
    pub at_most: u64,
    /// Who makes it: the writer of the layout, or of one that the layout has taken in.
    pub by: Option<Maker>,
}

/// The writer of a layout that another one has taken in, and what is its own there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Its format.
    pub format: String,
    /// Positions in [`Layout::files`].
    pub files: Range<usize>,
    /// Positions in [`Layout::digests`].
    pub digests: Range<usize>,
}

/// A promised file, made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// Its path, as it was promised.
    pub path: String,
    /// All that it holds.
    pub text: String,
}

/// What a run has shown when all but the promised files are written.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The files to be made.
    pub promises: Vec<Promise>,
    /// The files that are written, in the order of [`Layout::files`].
    pub files: Vec<Written>,
    /// The digests, in the order of [`Layout::digests`].
    pub digests: Vec<Digested>,
    /// The tensors whose values showed something while they were written, in file order.
    pub tensors: Vec<TensorSeen>,
    /// The losses that the values showed and that the user has accepted.
    pub losses: Vec<Loss>,
}

/// A file that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Relative path, `/` between folders.
    pub path: String,
    /// Length in bytes.
    pub len: u64,
}

/// A digest that is taken.
#[derive(Clone, Debug)]
pub struct Digested {
    /// Which one, and over what.
    pub digest: Digest,
    /// Its bytes; a CRC-32 as a little-endian number.
    pub value: Vec<u8>,
}

/// What writing a tensor has shown of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSeen {
    /// Position in the model.
    pub idx: TensorIdx,
    /// Its name there.
    pub name: String,
    /// The type that it is written in.
    pub dtype: DType,
    /// Values outside of the range of the type they were cast to: made infinite or NaN, or clipped.
    pub overflow: u64,
    /// Values that are not zero and that a cast made zero.
    pub underflow: u64,
    /// What quantization cost, where the run has quantized it.
    pub quantized: Option<Quantized>,
}

/// What quantization cost a tensor. Errors have six digits: those beyond depend on how the work was cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantized {
    /// Values quantized.
    pub n: u64,
    /// NaN and infinities among them. In what follows they do not count.
    pub non_finite: u64,
    /// Finite ones whose scale is beyond the type that holds it. In the errors they do not count.
    pub overflow: u64,
    /// Root of the mean square of the differences.
    pub rms: f64,
    /// Largest difference.
    pub largest: f64,
}

impl Promise {
    /// The same in a layout whose files and digests begin with so many others.
    pub(crate) fn moved(mut self, n_files: usize, n_digests: usize) -> Promise {
        // Who promised may have no idea of positions; that is found when the whole is validated.
        let by = |range: &Range<usize>, n: usize| range.start.saturating_add(n)..range.end.saturating_add(n);
        if let Some(Maker { files, digests, .. }) = &mut self.by {
            (*files, *digests) = (by(files, n_files), by(digests, n_digests));
        }
        self
    }
}

impl Layout {
    /// Promises a file of at most `at_most` bytes of text.
    pub fn promise(&mut self, path: impl Into<String>, at_most: u64) {
        self.promises.push(Promise { path: path.into(), at_most, by: None });
    }

    /// Writes down that the writer of `format` has promised what nobody has yet, before another writer takes the layout
    /// in.
    pub fn sign(&mut self, format: &str) {
        let (files, digests) = (0..self.files.len(), 0..self.digests.len());
        for promise in self.promises.iter_mut().filter(|promise| promise.by.is_none()) {
            promise.by =
                Some(Maker { format: format.to_owned(), files: files.clone(), digests: digests.clone() });
        }
    }

    /// Those who make the promised files, each once: the layout's own writer is `None`.
    pub fn makers(&self) -> Vec<Option<&Maker>> {
        let mut makers = vec![];
        for promise in &self.promises {
            if !makers.contains(&promise.by.as_ref()) {
                makers.push(promise.by.as_ref());
            }
        }
        makers
    }

    /// Promises are few and small, and about what is there. Their paths are looked at with the others.
    pub(crate) fn validate_promises(&self) -> Result<()> {
        if self.promises.len() > MAX_FILES {
            let error = Error::plugin("a layout promises too many files");
            return Err(error.expected(format_args!("at most {MAX_FILES}")).found(self.promises.len()));
        }
        for promise in &self.promises {
            let at_fault = |what: &'static str| Error::plugin(what).file(&promise.path);
            if promise.at_most > MAX_BYTES {
                return Err(at_fault("a layout promises too long a file")
                    .expected(format_args!("at most {MAX_BYTES}"))
                    .found(promise.at_most));
            }
            let Some(Maker { files, digests, .. }) = &promise.by else { continue };
            let own = self.digests.get(digests.clone());
            let is_there = files.start <= files.end && files.end <= self.files.len();
            if !is_there || !own.is_some_and(|own| own.iter().all(|digest| files.contains(&digest.over.file)))
            {
                return Err(at_fault("a layout promises a file about others that are not there"));
            }
        }
        Ok(())
    }
}

impl Outcome {
    /// What one of the [makers](Layout::makers) is to know: its files and digests as it laid them out itself.
    pub fn of(&self, maker: Option<&Maker>) -> Outcome {
        let (files, digests) = match maker {
            Some(maker) => (maker.files.clone(), maker.digests.clone()),
            None => (0..self.files.len(), 0..self.digests.len()),
        };
        let own = self.promises.iter().filter(|promise| promise.by.as_ref() == maker);
        let digests = self.digests.get(digests).unwrap_or_default().iter().cloned().map(|mut digested| {
            digested.digest.over.file = digested.digest.over.file.saturating_sub(files.start);
            digested
        });
        Outcome {
            promises: own.map(|promise| Promise { by: None, ..promise.clone() }).collect(),
            digests: digests.collect(),
            files: self.files.get(files.clone()).unwrap_or_default().to_vec(),
            tensors: self.tensors.clone(),
            losses: self.losses.clone(),
        }
    }

    /// The texts of the promised files, in the order of the promises.
    ///
    /// Errors, all of kind [`Plugin`](crate::error::ErrorKind::Plugin): one is missing, or too long, or was made twice;
    /// one was not promised.
    pub fn keep(&self, made: Vec<SmallFile>) -> Result<Vec<String>> {
        let mut texts: Vec<Option<String>> = vec![None; self.promises.len()];
        for SmallFile { path, text } in made {
            let at_fault = |what: &'static str| Error::plugin(what).file(&path);
            let idx = self.promises.iter().position(|promise| promise.path == path);
            let idx = idx.ok_or_else(|| at_fault("a writer made a file that its layout does not promise"))?;
            let (at_most, len) = (self.promises[idx].at_most, text.len() as u64);
            if len > at_most {
                return Err(at_fault("a file is longer than its layout promises")
                    .expected(format_args!("at most {at_most}"))
                    .found(len));
            }
            if texts[idx].replace(text).is_some() {
                return Err(at_fault("a writer made a file twice"));
            }
        }
        let text = |(text, promise): (Option<String>, &Promise)| {
            text.ok_or_else(|| {
                Error::plugin("a writer did not make a file that its layout promises").file(&promise.path)
            })
        };
        texts.into_iter().zip(&self.promises).map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{DigestAlgo, FileRange, Piece};
    use crate::limits::Limits;
    use crate::model::{Model, ModelView};

    fn layout(name: &str) -> Layout {
        let mut layout = Layout::default();
        let file = layout.push_file(name, vec![Piece::Zero(8)]);
        let over = FileRange { file, bytes: 0..8 };
        layout.digests.push(Digest { algo: DigestAlgo::Crc32, over });
        layout
    }

    fn validate(layout: &Layout) -> Result<()> {
        layout.validate(&ModelView::new(&Model::default(), &Limits::default()).unwrap())
    }

    #[test]
    fn a_layout_that_is_taken_in_keeps_its_promises() {
        let mut inner = layout("inner");
        inner.promise("inner.txt", 5);
        inner.sign("format");
        let mut middle = layout("middle");
        middle.promise("middle.txt", 5);
        middle.append(inner);
        middle.sign("another");
        let mut outer = layout("outer");
        assert_eq!(outer.append(middle), 1);
        outer.promise("outer.txt", 5);
        validate(&outer).unwrap();
        assert_eq!(
            outer.paths().collect::<Vec<_>>(),
            ["outer", "middle", "inner", "middle.txt", "inner.txt", "outer.txt"]
        );
        let digested =
            |(idx, digest): (usize, &Digest)| Digested { digest: digest.clone(), value: vec![idx as u8; 4] };
        let outcome = Outcome {
            promises: outer.promises.clone(),
            files: outer
                .files
                .iter()
                .map(|file| Written { path: file.path.clone(), len: file.len })
                .collect(),
            digests: outer.digests.iter().enumerate().map(digested).collect(),
            ..Outcome::default()
        };
        let makers = outer.makers();
        let found: Vec<_> = makers
            .iter()
            .map(|&maker| {
                let Outcome { promises, files, digests, .. } = outcome.of(maker);
                let digests: Vec<_> = digests.iter().map(|d| (d.digest.over.file, d.value[0])).collect();
                let format = maker.map_or("", |maker| &maker.format);
                (format, promises.len(), promises[0].path.clone(), files[0].path.clone(), digests)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("another", 1, "middle.txt".into(), "middle".into(), vec![(0, 1), (1, 2)]),
                ("format", 1, "inner.txt".into(), "inner".into(), vec![(0, 2)]),
                ("", 1, "outer.txt".into(), "outer".into(), vec![(0, 0), (1, 1), (2, 2)]),
            ]
        );
    }

    #[test]
    fn promises_are_small_and_have_names_of_their_own() {
        type Change = fn(&mut Layout);
        fn add(layout: &mut Layout, path: &str) {
            layout.push_file(path, vec![]);
        }
        let by = |files, digests| Some(Maker { format: "format".into(), files, digests });
        let cases: [(Change, &str); 8] = [
            (|layout| layout.promise("../x", 5), "x: a layout's path is not a plain unique relative path"),
            (|layout| layout.promise("file", 5), "a layout's path is not a plain unique relative path"),
            (|layout| layout.promise("text", 5), "a layout's path is not a plain unique relative path"),
            (|layout| layout.promise("file/x", 5), "a layout's path leads through another file"),
            (
                |layout| layout.promise("x", MAX_BYTES + 1),
                "a layout promises too long a file, expected at most",
            ),
            (|layout| (0..20).for_each(|n| layout.promise(n.to_string(), 1)), "too many files"),
            (|layout| add(layout, "text/x"), "a layout's path leads through another file"),
            (|layout| add(layout, "text"), "not a plain unique relative path"),
        ];
        let good = || {
            let mut layout = layout("file");
            layout.promise("text", MAX_BYTES);
            layout
        };
        validate(&good()).unwrap();
        for (change, expected) in cases {
            let mut layout = good();
            change(&mut layout);
            let error = validate(&layout).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for (files, digests, is_right) in [
            (0..1, 0..1, true),
            (0..0, 0..0, true),
            (0..2, 0..1, false),
            (0..1, 0..2, false),
            (0..0, 0..1, false),
            (1..1, 0..1, false),
        ] {
            let mut layout = good();
            layout.promises[0].by = by(files.clone(), digests.clone());
            assert_eq!(validate(&layout).is_ok(), is_right, "{files:?} {digests:?}");
        }
    }

    #[test]
    fn what_is_made_is_what_was_promised() {
        let promise = |path: &str| Promise { path: path.to_owned(), at_most: 3, by: None };
        let outcome = Outcome { promises: vec![promise("a"), promise("b")], ..Outcome::default() };
        let keep = |made: &[(&str, &str)]| {
            let file = |(path, text): &(&str, &str)| SmallFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            };
            outcome.keep(made.iter().map(file).collect()).map_err(|error| error.to_string())
        };
        assert_eq!(keep(&[("b", "two"), ("a", "")]).unwrap(), ["", "two"]);
        for (made, expected) in [
            (&[("a", "x")][..], "b: a writer did not make a file that its layout promises"),
            (&[("a", "x"), ("c", "x")], "c: a writer made a file that its layout does not promise"),
            (&[("a", "x"), ("a", "x")], "a: a writer made a file twice"),
            (&[("a", "four")], "a: a file is longer than its layout promises, expected at most 3, found 4"),
        ] {
            assert_eq!(keep(made).unwrap_err(), expected);
        }
    }
}
