//! Pickles to begin with, and changes by instruction.

use crate::random::Random;

/// Pickles that between them have every instruction. None needs anything to be looked up.
#[rustfmt::skip]
pub(crate) const SAMPLES: &[&[u8]] = &[
    b"(dp0\nVn\np1\nNsVt\np2\n(lp3\nI01\naI00\nasVi\np4\n(lp5\nI0\naI-1\naL2147483648L\nasVf\np6\n(F1.5\nF-inf\ntp7\ns.",
    b"}q\x00(X\x01\x00\x00\x00iq\x01]q\x02(K\x00M\x00\x01J\xff\xff\xff\xffL-5L\neU\x01bT\x01\x00\x00\x00\xffS'a\\x41'\nNu.",
    b"\x80\x02}q\x00(X\x01\x00\x00\x00fq\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88\x86q\x02X\x01\x00\x00\x00lq\x03\x8a\x05\
      \x00\x00\x00\x80\x00\x89)\x87q\x04u.",
    b"\x80\x04\x95\x24\x00\x00\x00\x00\x00\x00\x00\x8c\x08datetime\x94\x8c\x09timedelta\x94\x93\x94K\x01K\x00K\x00\x87\
      \x94R\x94.",
    b"\x80\x04\x8c\x01m\x94\x8c\x07Outer.C\x94\x93\x94K\x01\x85\x94}\x94\x8c\x01a\x94K\x02s\x92\x94}\x94\x8c\x01s\x94K\
      \x03sb.",
    b"\x80\x04\x8f\x94(K\x07K\x08\x90(K\x08\x91\x94\x8e\x01\x00\x00\x00\x00\x00\x00\x00b\x8d\x01\x00\x00\x00\x00\x00\
      \x00\x00u\x87.",
    b"\x80\x05\x96\x02\x00\x00\x00\x00\x00\x00\x00hiC\x01aB\x01\x00\x00\x00b\x87.",
    b"(cm\nC\nK\x01o(K\x02im\nC\n\x82\x07\x83\x00\x01\x84\x00\x00\x01\x000020(P7\n(\x8c\x07storageK\x01tQt.",
    b"ccollections\nOrderedDict\n)R(K\x01K\x02uK\x03K\x04s}X\x09\x00\x00\x00_metadataNsb.",
    b"((lp0\n(g0\ntp1\na00g1\n.",
    b"]r\xff\xff\xff\xffj\xff\xff\xff\xffa(1\x8b\x01\x00\x00\x00\x05\x8c\x03\xed\xa0\x80\x87.",
    b"cm\nC\n)\x81q\x05h\x05a(K\x01K\x02eh\x05b.",
    b"(I1\nI2\nd(K\x01K\x02l\x86.",
];

/// Instructions, some with arguments, that are put anywhere.
const PARTS: &[&[u8]] = &[
    b"(",
    b".",
    b"0",
    b"1",
    b"2",
    b"N",
    b"]",
    b"}",
    b")",
    b"\x8f",
    b"a",
    b"e",
    b"s",
    b"u",
    b"\x90",
    b"\x91",
    b"t",
    b"l",
    b"d",
    b"o",
    b"\x85",
    b"\x86",
    b"\x87",
    b"R",
    b"\x81",
    b"\x92",
    b"b",
    b"Q",
    b"\x93",
    b"\x94",
    b"q\x00",
    b"h\x00",
    b"h\x01",
    b"q\xff",
    b"r\xff\xff\xff\xff",
    b"j\xff\xff\xff\xff",
    b"g1\n",
    b"p99999999999\n",
    b"K\x00",
    b"K\x01",
    b"J\xff\xff\xff\xff",
    b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00",
    b"\x8b\xff\xff\xff\xff",
    b"X\xff\xff\xff\x7f",
    b"X\x00\x00\x00\x00",
    b"\x8c\x01a",
    b"\x8c\x02\xed\xa0",
    b"U\x01\xff",
    b"C\x00",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    b"S'\\",
    b"V\\ud800\n",
    b"I99999999999999999999999999\n",
    b"F1e999\n",
    b"cos\nsystem\n",
    b"ctorch\nSize\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"c_codecs\nencode\n",
    b"\x82\x00",
    b"\x84\xff\xff\xff\xff",
    b"\x95\x00\x00\x00\x00\x00\x00\x00\x01",
    b"\x80\x06",
    b"\x97",
];

/// Puts one to three instructions somewhere, or one for a byte that is there.
pub(crate) fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(2)).min(bytes.len());
        let part = random.pick(PARTS).iter().copied();
        bytes.splice(at..end, part);
    }
}

/// Whether bytes may well be a pickle.
pub(crate) fn is_likely(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 0..=5, ..]) || SAMPLES.iter().any(|sample| bytes.starts_with(&sample[..2]))
}
