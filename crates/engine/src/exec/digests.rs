//! Checksums of output ranges, from parts in any order.

use modelferry_core::layout::{DigestAlgo, Layout};
use modelferry_kernels::crc::Crc32Sum;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// The CRCs of a layout. A CRC without its initial value is linear: each written run's part is advanced by the bytes
/// behind it in its range and added.
pub(super) struct Crcs {
    by_file: Vec<FileCrcs>,
}

#[derive(Default)]
struct FileCrcs {
    /// In order of where the range begins.
    list: Vec<Crc>,
    /// Whether ranges end in that order too: true of every layout whose checksums do not nest.
    ends_ascend: bool,
}

struct Crc {
    over: Range<u64>,
    digest: usize,
    sum: AtomicU32,
}

impl Crcs {
    pub(super) fn of(layout: &Layout) -> Crcs {
        let mut by_file: Vec<FileCrcs> = layout.files.iter().map(|_| FileCrcs::default()).collect();
        for (digest, wanted) in layout.digests.iter().enumerate() {
            if wanted.algo == DigestAlgo::Crc32 {
                let over = wanted.over.bytes.clone();
                by_file[wanted.over.file].list.push(Crc { over, digest, sum: AtomicU32::new(0) });
            }
        }
        for FileCrcs { list, ends_ascend } in &mut by_file {
            list.sort_by_key(|crc| (crc.over.start, crc.over.end));
            *ends_ascend = list.windows(2).all(|pair| pair[0].over.end <= pair[1].over.end);
        }
        Crcs { by_file }
    }

    /// Whether any checksum covers some of these bytes.
    pub(super) fn touch(&self, file: usize, bytes: &Range<u64>) -> bool {
        self.overlapping(file, bytes).next().is_some()
    }

    /// Takes note of bytes written at `at`.
    pub(super) fn wrote(&self, file: usize, at: u64, bytes: &[u8]) {
        let range = at..at + bytes.len() as u64;
        for crc in self.overlapping(file, &range) {
            let (from, to) = (crc.over.start.max(range.start), crc.over.end.min(range.end));
            let part = &bytes[(from - at) as usize..(to - at) as usize];
            let mut sum = Crc32Sum::default();
            sum.add(part, crc.over.end - to);
            crc.sum.fetch_xor(sum.to_bits(), Ordering::Relaxed);
        }
    }

    /// Every finished checksum, by its position in the layout.
    pub(super) fn values(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.by_file.iter().flat_map(|file| &file.list).map(|crc| {
            let sum = Crc32Sum::from_bits(crc.sum.load(Ordering::Relaxed));
            (crc.digest, sum.finish(crc.over.end - crc.over.start))
        })
    }

    fn overlapping(&self, file: usize, bytes: &Range<u64>) -> impl Iterator<Item = &Crc> {
        let FileCrcs { list, ends_ascend } = &self.by_file[file];
        let start = bytes.start;
        let end = list.partition_point(|crc| crc.over.start < bytes.end);
        let begin = if *ends_ascend { list.partition_point(|crc| crc.over.end <= start) } else { 0 };
        list[begin.min(end)..end].iter().filter(move |crc| crc.over.end > start)
    }
}
