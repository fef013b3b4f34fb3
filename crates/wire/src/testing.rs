//! What the tests of every module share.

use modelferry_core::inputs::MemInputs;

/// Marsaglia's xorshift64: enough randomness for tests, reproducible from the seed a failure prints.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        // Spreads small seeds; odd, so that no seed but 0 gives the state 0, from which nothing comes.
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> MemInputs {
    MemInputs::new("m", bytes.into())
}

/// Every prefix of `sample` is an error.
pub(crate) fn every_prefix_fails(sample: &[u8], parse: impl Fn(&[u8]) -> bool) {
    for len in 0..sample.len() {
        assert!(!parse(&sample[..len]), "the first {len} of {} bytes were accepted", sample.len());
    }
}

/// No single flipped bit of `sample` makes `parse` panic.
pub(crate) fn every_bit_flip_returns(sample: &[u8], parse: impl Fn(&[u8]) -> bool) {
    let mut damaged = sample.to_vec();
    for bit in 0..sample.len() * 8 {
        damaged[bit / 8] ^= 1 << (bit % 8);
        parse(&damaged);
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Compares rendered messages and shows every difference at once.
pub(crate) fn same_messages<E: AsRef<str>>(cases: impl IntoIterator<Item = (String, E)>) {
    let differ = |(found, expected): &(String, E)| found != expected.as_ref();
    let differing: Vec<String> = (cases.into_iter().filter(differ))
        .map(|(found, expected)| format!("found    {found}\nexpected {}\n", expected.as_ref()))
        .collect();
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
}
