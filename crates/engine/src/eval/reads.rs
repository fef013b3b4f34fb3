//! What one thread has read of its files, kept while several outputs are made of it.

use modelferry_core::Result;
use modelferry_core::inputs::{FileId, Inputs};
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of files, each read once until [`forget`](Reads::forget). Without room it passes every read on.
#[derive(Default)]
pub(crate) struct Reads {
    cap: usize,
    bytes: Vec<u8>,
    /// By file and first byte, where the bytes are here. Ranges of one file do not overlap.
    held: BTreeMap<(FileId, u64), Range<usize>>,
}

impl Reads {
    /// Keeps at most `cap` bytes. What is read beyond them is read as often as it is wanted.
    pub(crate) fn of(cap: u64) -> Reads {
        Reads { cap: cap as usize, ..Reads::default() }
    }

    /// Makes room for the next range of the source.
    pub(crate) fn forget(&mut self) {
        self.bytes.clear();
        self.held.clear();
    }

    /// Fills `out` with the bytes of `file` from `at` on.
    pub(crate) fn read(&mut self, inputs: &dyn Inputs, file: FileId, at: u64, out: &mut [u8]) -> Result<()> {
        if self.cap == 0 {
            return inputs.read_at(file, at, out);
        }
        let mut filled = 0;
        while filled < out.len() {
            let next = at + filled as u64;
            let rest = out.len() - filled;
            if let Some((len, from)) = self.find(file, next) {
                let len = len.min(rest);
                out[filled..filled + len].copy_from_slice(&self.bytes[from..from + len]);
                filled += len;
                continue;
            }
            let after = self.held.range((file, next)..).next();
            let gap = match after {
                Some((&(other, begin), _)) if other == file => rest.min((begin - next) as usize),
                _ => rest,
            };
            let place = &mut out[filled..filled + gap];
            inputs.read_at(file, next, place)?;
            self.keep(file, next, place);
            filled += gap;
        }
        Ok(())
    }

    /// How many bytes from byte `at` of the file on are held, and where.
    fn find(&self, file: FileId, at: u64) -> Option<(usize, usize)> {
        let (&(of, begin), place) = self.held.range(..=(file, at)).next_back()?;
        let skip = at.checked_sub(begin).filter(|_| of == file)? as usize;
        (skip < place.len()).then(|| (place.len() - skip, place.start + skip))
    }

    fn keep(&mut self, file: FileId, at: u64, read: &[u8]) {
        let start = self.bytes.len();
        if read.is_empty() || start + read.len() > self.cap || self.bytes.try_reserve(read.len()).is_err() {
            return;
        }
        self.bytes.extend_from_slice(read);
        self.held.insert((file, at), start..self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// One file of ascending bytes that notes what is read of it.
    struct Noted(Mutex<Vec<(u64, u64)>>);

    impl Inputs for Noted {
        fn root(&self) -> FileId {
            FileId(0)
        }

        fn open(&self, _: &str) -> Result<FileId> {
            Ok(FileId(0))
        }

        fn list(&self, _: &str) -> Result<Vec<String>> {
            Ok(vec![])
        }

        fn name(&self, _: FileId) -> String {
            String::new()
        }

        fn len(&self, _: FileId) -> u64 {
            256
        }

        fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
            self.0.lock().unwrap().push((offset, offset + out.len() as u64));
            out.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = at as u8 + file.0 as u8);
            Ok(())
        }
    }

    #[test]
    fn every_byte_is_read_once_whatever_the_cuts() {
        let inputs = Noted(Mutex::default());
        let mut reads = Reads::of(64);
        let mut read = |file: u32, range: Range<u64>| {
            let mut out = vec![0; (range.end - range.start) as usize];
            reads.read(&inputs, FileId(file), range.start, &mut out).unwrap();
            let expected: Vec<u8> = range.map(|at| at as u8 + file as u8).collect();
            assert_eq!(out, expected);
            std::mem::take(&mut *inputs.0.lock().unwrap())
        };
        assert_eq!(read(0, 10..20), [(10, 20)]);
        assert_eq!(read(0, 30..40), [(30, 40)]);
        assert_eq!(read(0, 5..45), [(5, 10), (20, 30), (40, 45)]);
        assert!(read(0, 5..45).is_empty());
        assert_eq!(read(1, 10..12), [(10, 12)], "another file");
        assert!(read(0, 7..7).is_empty());
        // 42 of 64 bytes are held: what does not fit is read again.
        assert_eq!(read(0, 100..130), [(100, 130)]);
        assert_eq!(read(0, 100..130), [(100, 130)]);
        assert_eq!(read(0, 100..110), [(100, 110)]);
        assert!(read(0, 100..110).is_empty());
        reads.forget();
        let mut read = |range: Range<u64>| {
            reads
                .read(&inputs, FileId(0), range.start, &mut vec![0; (range.end - range.start) as usize])
                .unwrap();
            std::mem::take(&mut *inputs.0.lock().unwrap())
        };
        assert_eq!(read(10..20), [(10, 20)]);
    }

    #[test]
    fn without_room_every_read_is_passed_on() {
        let inputs = Noted(Mutex::default());
        let mut reads = Reads::default();
        for _ in 0..2 {
            reads.read(&inputs, FileId(0), 3, &mut [0; 4]).unwrap();
        }
        assert_eq!(*inputs.0.lock().unwrap(), [(3, 7), (3, 7)]);
    }
}
