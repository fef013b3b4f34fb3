//! How much each column of a weight matters: llama.cpp's importance matrix.

use modelferry_core::{Error, Result};
use std::collections::BTreeMap;

/// Importance of the columns of tensors, by the names that GGUF gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    entries: BTreeMap<String, Vec<f32>>,
}

impl Importance {
    /// Adds what a tensor's columns have seen: `sums` of squared activations, one per column for each matrix of a stack,
    /// and for each matrix how often it was used. One that was never used weighs every column alike.
    ///
    /// Errors: sums that the counts do not divide.
    pub fn add(&mut self, name: &str, mut sums: Vec<f32>, counts: &[f32]) -> Result<()> {
        if counts.is_empty() || !sums.len().is_multiple_of(counts.len()) || sums.is_empty() {
            return Err(Error::malformed("importance sums do not fit their counts")
                .tensor(name)
                .expected(format_args!("a multiple of {} counts", counts.len()))
                .found(format_args!("{} sums", sums.len())));
        }
        let n_columns = sums.len() / counts.len();
        for (sums, count) in sums.chunks_mut(n_columns).zip(counts) {
            // The counts of the format are whole numbers that are stored as floats.
            let count = count.round();
            sums.iter_mut().for_each(|sum| *sum = if count > 0.0 { *sum / count } else { 1.0 });
        }
        self.entries.insert(name.to_owned(), sums);
        Ok(())
    }

    /// Reads the older form: a count of entries; for each the length of its name and the name, the number of calls,
    /// the number of values, and the values, summed over calls; integers of 32 bits, little-endian. What follows (the
    /// number of chunks and the dataset's name) is not needed.
    ///
    /// Errors: a number that the file cannot hold.
    pub fn parse_legacy(bytes: &[u8]) -> Result<Importance> {
        let mut left = Left { bytes, at: 0 };
        let n_entries = left.count("entries", 13)?;
        let mut found = Importance::default();
        for _ in 0..n_entries {
            let name_len = left.count("bytes of a name", 1)?;
            let at = left.at;
            let name = String::from_utf8(left.take(name_len)?.to_vec())
                .map_err(|_| Error::malformed("a name is not UTF-8").offset(at as u64))?;
            let n_calls = left.number()?;
            let n_values = left.count("values", 4)?;
            let values = left.take(n_values * 4)?.as_chunks::<4>().0;
            let mut values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
            if n_calls > 0 {
                values.iter_mut().for_each(|value| *value /= n_calls as f32);
            }
            found.entries.insert(name, values);
        }
        Ok(found)
    }

    /// Number of tensors known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no tensor is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names of the tensors that are known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Of the tensor of that name.
    pub fn of(&self, name: &str) -> Option<&[f32]> {
        self.entries.get(name).map(Vec::as_slice)
    }
}

/// What is left of a file.
struct Left<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Left<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            Error::malformed("an importance matrix ends early")
                .offset(self.at as u64)
                .expected(format_args!("{len} bytes"))
                .found(format_args!("{}", self.bytes.len() - self.at))
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<i32> {
        let bytes = self.take(4)?.first_chunk::<4>().copied().unwrap_or_default();
        Ok(i32::from_le_bytes(bytes))
    }

    /// A number of things of at least `each` bytes, one or more of which the file must hold.
    fn count(&mut self, what: &str, each: usize) -> Result<usize> {
        let at = self.at;
        let found = self.number()?;
        let most = (self.bytes.len() - self.at) / each;
        usize::try_from(found).ok().filter(|n| (1..=most).contains(n)).ok_or_else(|| {
            Error::malformed(format!("an importance matrix cannot hold so many {what}"))
                .offset(at as u64)
                .expected(format_args!("1 to {most}"))
                .found(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy() -> Vec<u8> {
        let mut bytes = 2i32.to_le_bytes().to_vec();
        for (name, calls, values) in [("a.weight", 4, &[8f32, 2.0][..]), ("b", 0, &[3.0])] {
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(i32::to_le_bytes(calls));
            bytes.extend((values.len() as i32).to_le_bytes());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn the_older_form() {
        let found = Importance::parse_legacy(&legacy()).unwrap();
        assert_eq!(found.of("a.weight"), Some(&[2.0, 0.5][..]));
        assert_eq!(found.of("b"), Some(&[3.0][..]));
        for end in 0..legacy().len() {
            assert!(Importance::parse_legacy(&legacy()[..end]).is_err(), "{end}");
        }
        let mut many = legacy();
        many[..4].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(Importance::parse_legacy(&many).is_err());
    }

    #[test]
    fn each_matrix_has_its_count() {
        let mut found = Importance::default();
        found.add("experts", vec![4.0, 8.0, 5.0, 6.0], &[4.0, 0.0]).unwrap();
        assert_eq!(found.of("experts"), Some(&[1.0, 2.0, 1.0, 1.0][..]));
        assert!(found.add("x", vec![1.0; 3], &[1.0, 1.0]).is_err());
        assert!(found.add("x", vec![], &[]).is_err());
    }
}
