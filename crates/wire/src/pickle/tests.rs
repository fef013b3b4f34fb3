//! The machine, instruction by instruction, and beside CPython.

use super::*;
use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
use modelferry_core::error::ErrorKind;
use modelferry_core::inputs::{FileId, Inputs, Window};
use modelferry_core::tree::{Making, Object, ObjectId};
use std::fmt::Write as _;

mod cpython;
mod emitted;

pub(super) fn parse(bytes: &[u8]) -> Result<Tree> {
    read(&mut Source::memory(bytes), &Limits::default())
}

/// The value in a form much like Python's: `name(args)`, `@persistent id@`; then `|state`, `+[items]`, `+{entries}`.
pub(super) fn show(tree: &Tree) -> String {
    let mut out = String::new();
    show_one(tree, tree.root().unwrap(), &mut out, &mut vec![]);
    out
}

fn show_one(tree: &Tree, id: ObjectId, out: &mut String, open: &mut Vec<ObjectId>) {
    if let Some(above) = open.iter().rev().position(|&other| other == id) {
        write!(out, "^{}", above + 1).unwrap();
        return;
    }
    open.push(id);
    let mut list = |out: &mut String, ends: &str, members: &[ObjectId]| {
        out.push_str(&ends[..ends.len() / 2]);
        for (idx, &member) in members.iter().enumerate() {
            out.push_str(if idx == 0 { "" } else { ", " });
            show_one(tree, member, out, open);
        }
        out.push_str(&ends[ends.len() / 2..]);
    };
    let flat = |entries: &[(ObjectId, ObjectId)]| -> Vec<ObjectId> {
        entries.iter().flat_map(|&(key, value)| [key, value]).collect()
    };
    match &tree[id] {
        Object::None => out.push_str("None"),
        Object::Bool(value) => write!(out, "{value}").unwrap(),
        Object::Int(value) => write!(out, "{value}").unwrap(),
        Object::BigInt(bytes) => write!(out, "big{bytes:?}").unwrap(),
        Object::Float(value) => write!(out, "{value:?}").unwrap(),
        Object::Text(text) => write!(out, "{text:?}").unwrap(),
        Object::LooseText(bytes) => write!(out, "loose{:?}", String::from_utf8_lossy(bytes)).unwrap(),
        Object::Bytes(bytes) => write!(out, "b{bytes:?}").unwrap(),
        Object::List(members) => list(out, "[]", members),
        Object::Tuple(members) => list(out, "()", members),
        Object::Set(members) => list(out, "{}", members),
        Object::FrozenSet(members) => list(out, "<>", members),
        Object::Dict(entries) => list(out, "{}", &flat(entries)),
        Object::External(of) => list(out, "@@", &[*of]),
        Object::Global(global) => write!(out, "{}.{}", global.module, global.name).unwrap(),
        Object::Instance(instance) => {
            out.push_str(if instance.making == Making::New { "new " } else { "" });
            list(out, "", &[instance.callable]);
            list(out, "", &[instance.args]);
            if let Some(kwargs) = instance.kwargs {
                list(out, "****", &[kwargs]);
            }
            for &state in &instance.states {
                out.push('|');
                list(out, "", &[state]);
            }
            if !instance.items.is_empty() {
                out.push('+');
                list(out, "[]", &instance.items);
            }
            if !instance.entries.is_empty() {
                out.push('+');
                list(out, "{}", &flat(&instance.entries));
            }
        }
        other => write!(out, "{other:?}").unwrap(),
    }
    open.pop();
}

#[track_caller]
fn reads_as(bytes: &[u8], expected: &str) {
    let found = parse(bytes).map(|tree| show(&tree)).unwrap_or_else(|error| error.to_string());
    assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn constants_and_numbers() {
    reads_as(b"N.", "None");
    reads_as(b"\x88\x89\x86.", "(true, false)");
    reads_as(b"(I00\nI01\nI1\nI-7\nt.", "(false, true, 1, -7)");
    reads_as(b"(L1L\nL-2\nL18446744073709551616L\nt.", "(1, -2, big[0, 0, 0, 0, 0, 0, 0, 0, 1])");
    reads_as(b"J\xff\xff\xff\xffK\xffM\xff\xff\x87.", "(-1, 255, 65535)");
    reads_as(b"\x8a\x00\x8a\x01\xff\x8b\x02\x00\x00\x00\x00\x80\x87.", "(0, -1, -32768)");
    reads_as(b"G\x3f\xf8\x00\x00\x00\x00\x00\x00F-1e3\nFnan\n\x87.", "(1.5, -1000.0, NaN)");
    reads_as(b"\x8b\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01.", "big[0, 0, 0, 0, 0, 0, 0, 0, 1]");
}

#[test]
fn texts_and_bytes() {
    reads_as(b"X\x02\x00\x00\x00\xc3\xa9.", "\"é\"");
    reads_as(b"\x8c\x01a\x8d\x01\x00\x00\x00\x00\x00\x00\x00b\x86.", "(\"a\", \"b\")");
    reads_as(b"V\\u20ac\xe9\n.", "\"€é\"");
    reads_as(b"\x8c\x03\xed\xa0\x80.", "loose\"\u{fffd}\u{fffd}\u{fffd}\"");
    reads_as(b"S'a\\x41'\nT\x01\x00\x00\x00bU\x01c\x87.", "(\"aA\", \"b\", \"c\")");
    reads_as(b"S'\\xff'\nT\x01\x00\x00\x00\xfeU\x01\xfd\x87.", "(b[255], b[254], b[253])");
    reads_as(b"C\x01aB\x01\x00\x00\x00b\x8e\x01\x00\x00\x00\x00\x00\x00\x00c\x87.", "(b[97], b[98], b[99])");
    reads_as(b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "builtins.bytearray(b[97])");
}

#[test]
fn what_holds_values() {
    reads_as(b")]}\x87.", "((), [], {})");
    reads_as(b"(K\x01K\x02l(K\x03K\x04d(t\x87.", "([1, 2], {3, 4}, ())");
    reads_as(b"]K\x01a(K\x02K\x03e.", "[1, 2, 3]");
    reads_as(b"}K\x01K\x02s(K\x03K\x04u.", "{1, 2, 3, 4}");
    reads_as(b"\x8f(K\x01K\x02\x90(K\x03\x91\x86.", "({1, 2}, <3>)");
    reads_as(b"K\x01\x85K\x01K\x02\x86K\x01K\x02K\x03\x87\x87.", "((1), (1, 2), (1, 2, 3))");
    // Nothing set in what holds nothing is nothing, as in CPython.
    reads_as(b"N(eN(u.", "None");
}

#[test]
fn the_stack() {
    reads_as(b"K\x01K\x020.", "1");
    reads_as(b"K\x01(0.", "1");
    reads_as(b"K\x01(K\x02K\x031.", "1");
    reads_as(b"K\x012\x86.", "(1, 1)");
    reads_as(b"K\x01K\x02.", "2");
    reads_as(b"K\x01(K\x02.", "2");
    reads_as(b"\x80\x05\x95\x03\x00\x00\x00\x00\x00\x00\x00K\x01\x85.", "(1)");
}

#[test]
fn the_memo_shares() {
    let tree = parse(b"]q\x05h\x05j\x05\x00\x00\x00g5\n\x87.").unwrap();
    let members = tree.sequence(tree.root().unwrap()).unwrap();
    assert_eq!(tree.len(), 2);
    assert!(members.iter().all(|&member| member == members[0]));
    reads_as(b"]r\xff\xff\xff\xffj\xff\xff\xff\xffa.", "[^1]");
    reads_as(b"]p4294967295\ng4294967295\na.", "[^1]");
    reads_as(b"K\x01\x94K\x02\x94h\x00h\x01\x86.", "(1, 2)");
    // cPickle counts from 1, and MEMOIZE by how many there are.
    reads_as(b"K\x01q\x01K\x02\x94h\x01\x86.", "(2, 2)");
}

#[test]
fn names_and_calls_are_recorded() {
    reads_as(b"cos\nsystem\n(S'touch mark'\ntR.", "os.system(\"touch mark\")");
    reads_as(b"\x8c\x02os\x8c\x06system\x93.", "os.system");
    reads_as(b"cm\nC\n)\x81}b.", "new m.C()|{}");
    reads_as(b"cm\nC\n)}\x8c\x01kNs\x92.", "new m.C()**{\"k\", None}**");
    reads_as(b"(cm\nC\nK\x01K\x02o.", "m.C(1, 2)");
    reads_as(b"(cm\nC\no.", "new m.C()");
    reads_as(b"(K\x01im\nC\n.", "m.C(1)");
    reads_as(b"(im\nC\n}b.", "new m.C()|{}");
    reads_as(
        b"\x82\x07\x83\x00\x01\x84\x00\x00\x01\x00\x87.",
        "(copyreg.extension 7(), copyreg.extension 256(), \
        copyreg.extension 65536())",
    );
    reads_as(b"cm\nC\n)RK\x01a(K\x02K\x03eK\x04K\x05s(K\x06\x90Nb.", "m.C()|None+[1, 2, 3, 6]+{4, 5}");
    reads_as(b"Pid 7\n.", "@\"id 7\"@");
    reads_as(b"(\x8c\x07storageK\x01tQ.", "@(\"storage\", 1)@");
}

#[test]
fn cycles_are_cycles() {
    reads_as(b"(lp0\ng0\na.", "[^1]");
    // CPython writes a tuple that holds itself so, through a list.
    reads_as(b"((lp0\n(g0\ntp1\na00g1\n.", "([^2])");
    reads_as(b"\x80\x02]q\x00h\x00\x85q\x01a0h\x01.", "([^2])");
    reads_as(b"cm\nC\n)Rq\x00h\x00b.", "m.C()|^1");
}

#[test]
fn messages_name_the_place_the_fault_and_the_instruction() {
    let cases: [(&[u8], &str); 32] = [
        (b"", "byte 0: the data is cut short, expected 1 bytes more, found 0 bytes"),
        (b"K\x01", "byte 2: the data is cut short, expected 1 bytes more, found 0 bytes"),
        (b"J\x01", "byte 1: the data is cut short, expected 4 bytes more, found 1 bytes"),
        (
            b"X\xff\xff\xff\xffab",
            "byte 5: the data is cut short, expected 4294967295 bytes more, found 2 bytes",
        ),
        (
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffab",
            "byte 9: the data is cut short, expected 18446744073709551615 \
            bytes more, found 2 bytes",
        ),
        (
            b"\x95\x09\x00\x00\x00\x00\x00\x00\x00N.",
            "byte 9: the data is cut short, expected 9 bytes more, found 2 \
            bytes",
        ),
        (b"cos\nsystem", "byte 4: the data is cut short, expected 7 bytes more, found 6 bytes"),
        (
            b"\x80\x06N.",
            "byte 0: the pickle is of a protocol that we do not know, expected at most 5, found 6",
        ),
        (b"\x80\x05\x97.", "byte 2: the pickle refers to buffers kept outside of it"),
        (b"N\xff.", "byte 1: the pickle has an instruction that does not exist, found 0xff"),
        (b".", "byte 0: the pickle's stack holds too little, found STOP"),
        (b"N(.", "byte 2: the pickle's stack holds too little, found STOP"),
        (b"N(\x85.", "byte 2: the pickle's stack holds too little, found TUPLE1"),
        (b"0.", "byte 0: the pickle's stack has no mark, found POP"),
        (b"NNt.", "byte 2: the pickle's stack has no mark, found TUPLE"),
        (b"N(h\x00.", "byte 2: the pickle's memo has nothing under a number, found 0"),
        (b"q\x00.", "byte 0: the pickle's stack holds too little, found BINPUT"),
        (b"Ng-1\n.", "byte 1: a number of the pickle's memo is none, found GET"),
        (b"NNa.", "byte 2: a pickle appends to what holds no items, found APPEND"),
        (b"](\x89\x90.", "byte 3: a pickle appends to what holds no items, found ADDITEMS"),
        (b"\x8f(\x89e.", "byte 3: a pickle appends to what holds no items, found APPENDS"),
        (b"(Ne.", "byte 2: the pickle's stack holds too little, found APPENDS"),
        (b"}(Nu.", "byte 3: a key in a pickle has no value, found SETITEMS"),
        (b"(Nd.", "byte 2: a key in a pickle has no value, found DICT"),
        (b"](NNu.", "byte 4: a pickle sets a key in what has no keys, found SETITEMS"),
        (b"cm\nC\nNb.", "byte 6: a pickle gives a state to what takes none, found BUILD"),
        (b"T\xff\xff\xff\xff.", "byte 0: a length in a pickle is negative, found BINSTRING"),
        (b"X\x01\x00\x00\x00\xff.", "byte 0: text in a pickle is not UTF-8, found BINUNICODE"),
        (b"Sa\n.", "byte 0: a quoted string in a pickle is malformed, found STRING"),
        (b"I1x\n.", "byte 0: a number in a pickle is none, or too long, found INT"),
        (b"K\x01K\x02\x93.", "byte 4: a name in a pickle is no text, found STACK_GLOBAL"),
        (b"\x82\x00.", "byte 0: an extension's number in a pickle is not positive, found EXT1"),
    ];
    same_messages(cases.map(|(bytes, expected)| {
        let inputs = file(bytes);
        let window = Window { file: FileId(0), at: 0, len: bytes.len() as u64 };
        let found = match read(&mut Source::new(&inputs, window), &Limits::default()) {
            Ok(tree) => show(&tree),
            Err(error) => error.to_string(),
        };
        (found, format!("m: {expected}"))
    }));
}

#[test]
fn limits_are_kept() {
    let mut limits = Limits::default();
    let kind = |bytes: &[u8], limits: &Limits| {
        read(&mut Source::memory(bytes), limits).map_err(|error| error.kind()).err()
    };
    limits.opcodes = 3;
    assert_eq!(kind(b"N0N.", &limits), Some(ErrorKind::Limit));
    assert_eq!(kind(b"N2.", &limits), None);
    limits = Limits::default();
    limits.objects = 3;
    assert_eq!(kind(b"]]]].", &limits), Some(ErrorKind::Limit));
    assert_eq!(kind(b"]]].", &limits), None);
    limits = Limits::default();
    limits.header_bytes = 4;
    assert_eq!(kind(b"]]]].", &limits), Some(ErrorKind::Limit));
    assert_eq!(kind(b"]]].", &limits), None);
    assert_eq!(kind(b"X\x09\x00\x00\x00aaaaaaaaa.", &limits), Some(ErrorKind::Limit));
}

#[test]
fn streams_hold_one_pickle_after_the_other() {
    let bytes = b"K\x01.\x80\x02K\x02.raw";
    let inputs = file(&bytes[..]);
    let window = Window { file: inputs.root(), at: 0, len: bytes.len() as u64 };
    let mut source = Source::new(&inputs, window);
    for expected in ["1", "2"] {
        assert_eq!(show(&read(&mut source, &Limits::default()).unwrap()), expected);
    }
    assert_eq!((source.position(), source.remaining()), (8, 3));
    assert_eq!(source.take(3).unwrap(), b"raw");
}

/// A second for each on a slow day; quadratic time or a deep recursion would show.
#[test]
fn floods_and_depths_are_linear() {
    const N: usize = 1 << 20;
    let deep = [vec![b']'; N], vec![b'a'; N - 1], b".".to_vec()].concat();
    assert_eq!(parse(&deep).unwrap().len(), N);
    let tuples = [b"N".to_vec(), vec![0x85; N], b".".to_vec()].concat();
    drop(parse(&tuples).unwrap());
    let marks = [vec![b'('; N], vec![b'1'; N], b"N.".to_vec()].concat();
    assert_eq!(parse(&marks).unwrap().len(), 1);
    // One value a million times.
    let shared = [b"](Nq\x00".to_vec(), b"h\x00".repeat(N), b"e.".to_vec()].concat();
    assert_eq!(parse(&shared).unwrap().len(), 2);
    let line = [b"V".to_vec(), vec![b'a'; N], b"\n.".to_vec()].concat();
    assert_eq!(parse(&line).unwrap().len(), 1);
}

#[test]
fn no_bytes_make_it_panic() {
    for sample in cpython::PROTOCOLS {
        every_prefix_fails(sample, |bytes| parse(bytes).is_ok());
        every_bit_flip_returns(sample, |bytes| parse(bytes).is_ok());
    }
    let mut rng = Rng::new(4);
    for _ in 0..20_000 {
        let len = rng.below(40) as usize;
        // Mostly instructions, not lengths.
        let codes: Vec<u8> = (0..=255).filter(|&code| opcodes::name(code).is_some()).collect();
        let bytes: Vec<u8> = (0..len).map(|_| codes[rng.below(codes.len() as u64) as usize]).collect();
        let _ = parse(&bytes);
    }
}
