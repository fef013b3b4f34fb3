//! What we write is what we read.

use super::*;
use modelferry_core::model::TensorIdx;

fn emitted(tree: &Tree) -> Result<Vec<u8>> {
    let mut emitter = Emitter::default();
    emit_tree(tree, tree.root().unwrap(), &mut emitter, &mut |_, _| Ok(()))?;
    Ok(emitter.finish())
}

#[track_caller]
fn comes_back(bytes: &[u8]) {
    let tree = parse(bytes).unwrap();
    let written = emitted(&tree).unwrap();
    let again = parse(&written).unwrap();
    assert_eq!(show(&again), show(&tree), "{:?}", String::from_utf8_lossy(&written));
}

/// The opcodes of a pickle without their arguments would need a second reader; this one only knows which bytes torch
/// has no instruction for, in pickles whose arguments hold none of them.
fn has_only_known_opcodes(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| (0x8b..=0x98).contains(byte) || b"FILSTVpgiod1B".contains(byte))
}

#[test]
fn values_come_back() {
    for sample in cpython::PROTOCOLS {
        let tree = parse(sample).unwrap();
        let again = parse(&emitted(&tree).unwrap()).unwrap();
        // Sets and bytes come back as the calls that protocol 2 has for them, and stay so.
        comes_back(&emitted(&again).unwrap());
        let entries = again.mapping(again.root().unwrap()).unwrap();
        let shared = entries.iter().find(|entry| again.text(entry.0) == Some("sh")).unwrap().1;
        let members = again.sequence(shared).unwrap();
        assert_eq!(members[0], members[1]);
    }
    for sample in &cpython::PROTOCOLS[..3] {
        comes_back(sample);
    }
    for sample in [
        &b"(lp0\ng0\na."[..],
        b"cm\nC\n)Rq\x00K\x01ah\x00K\x01s(K\x02K\x03K\x04h\x00uNbh\x00b.",
        b"cm\nC\nq\x00h\x00)\x81h\x00)\x81\x86.",
        b"(\x8c\x07storageK\x01tQq\x00h\x00\x86.",
        b"()]}(lt.",
    ] {
        comes_back(sample);
    }
}

#[test]
fn the_dialect_is_torchs() {
    let sample = b"}(K\x00(K\x01M\xe8\x03J\xff\xff\xff\xff\x8a\x05\x00\x00\x00\x00\x01tK\x02]K\x03}K\x04\x88K\x05NK\x06cm\nC\n)Ru.";
    let written = emitted(&parse(sample).unwrap()).unwrap();
    assert!(has_only_known_opcodes(&written), "{:?}", String::from_utf8_lossy(&written));
    let expected =
        b"\x80\x02}q\x00(K\x00(K\x01M\xe8\x03J\xff\xff\xff\xff\x8a\x05\x00\x00\x00\x00\x01tq\x01K\x02]q\
        \x02K\x03}q\x03K\x04\x88K\x05NK\x06cm\nC\nq\x04)Rq\x05u.";
    assert_eq!(written, expected);
}

#[test]
fn a_batch_is_a_thousand_items() {
    for n in [0, 1, 2, 999, 1000, 1001, 2000, 2001, 2500] {
        let items = |end: u8| [b"](".to_vec(), b"K\x07".repeat(n), vec![end, b'.']].concat();
        comes_back(&items(b'e'));
        let dict = [b"}(".to_vec(), b"K\x07N".repeat(n), b"u.".to_vec()].concat();
        comes_back(&dict);
        let written = emitted(&parse(&items(b'e')).unwrap()).unwrap();
        let count = |code| written.iter().filter(|&&byte| byte == code).count();
        assert_eq!(count(b'e') + count(b'a'), n.div_ceil(1000), "{n}");
        assert_eq!(count(b'a'), usize::from(n % 1000 == 1), "{n}");
    }
}

#[test]
fn more_than_fits_a_short_number() {
    let many = [b"](".to_vec(), b"]".repeat(300), b"e.".to_vec()].concat();
    comes_back(&many);
    let numbers = [0, 255, 256, 65535, 65536, -1, i64::from(i32::MAX), i64::from(i32::MAX) + 1, i64::MIN];
    let mut emitter = Emitter::default();
    emitter.ints(numbers.into_iter());
    let shown: Vec<String> = numbers.iter().map(i64::to_string).collect();
    assert_eq!(show(&parse(&emitter.finish()).unwrap()), format!("({})", shown.join(", ")));
}

#[test]
fn texts_and_names_are_written_once() {
    let mut emitter = Emitter::default();
    assert!(emitter.is_empty());
    for _ in 0..2 {
        emitter.text("cpu").unwrap();
        emitter.global("torch", "FloatStorage").unwrap();
    }
    emitter.close_tuple(2);
    assert_eq!(emitter.len(), 39);
    let written = emitter.finish();
    assert_eq!(written, b"\x80\x02X\x03\x00\x00\x00cpuq\x00ctorch\nFloatStorage\nq\x01h\x00h\x01\x86.");
}

#[test]
fn bytes_are_the_call_that_python_3_makes_of_them() {
    let tree = parse(b"C\x02\xff\x00.").unwrap();
    let written = emitted(&tree).unwrap();
    assert_eq!(show(&parse(&written).unwrap()), "_codecs.encode(\"ÿ\\0\", \"latin1\")");
}

#[test]
fn tensors_are_the_callers() {
    let mut tree = Tree::default();
    let tensor = tree.push(Object::Tensor(TensorIdx::default())).unwrap();
    let root = tree.push(Object::List(vec![tensor, tensor])).unwrap();
    let mut n_calls = 0;
    let mut emitter = Emitter::default();
    let mut write = |_: TensorIdx, emitter: &mut Emitter| {
        n_calls += 1;
        emitter.text("here")
    };
    emit_tree(&tree, root, &mut emitter, &mut write).unwrap();
    assert_eq!((show(&parse(&emitter.finish()).unwrap()).as_str(), n_calls), ("[\"here\", \"here\"]", 1));
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let error = |bytes: &[u8]| emitted(&parse(bytes).unwrap()).unwrap_err().to_string();
    // A tuple that holds itself through a list; arguments that hold the result.
    assert_eq!(
        error(b"((lp0\n(g0\ntp1\na00g1\n."),
        "a value holds itself through a tuple, a set or the arguments of a call"
    );
    assert_eq!(
        error(b"cm\nC\n]q\x00\x85Rq\x01h\x00h\x01a0."),
        "a value holds itself through a tuple, a set or the arguments of a call"
    );
    assert_eq!(
        error(b"cm\nC\n)}\x8c\x01kNs\x92."),
        "torch's pickles cannot hold a call with keyword arguments"
    );
    let long = [b"\x8b\x00\x01\x00\x00".to_vec(), vec![1; 256], b".".to_vec()].concat();
    assert_eq!(error(&long), "torch's pickles cannot hold so large a number, found 256 bytes");
    assert_eq!(
        error(b"\x8c\x01m\x8c\x03a\nb\x93."),
        "a pickle cannot hold a class whose name has a line feed in it, found \"a\\nb\""
    );
}

#[test]
fn depth_is_no_danger() {
    const N: usize = 1 << 18;
    let lists = [vec![b']'; N], vec![b'a'; N - 1], b".".to_vec()].concat();
    let written = emitted(&parse(&lists).unwrap()).unwrap();
    assert_eq!(parse(&written).unwrap().len(), N);
    let tuples = [b"N".to_vec(), vec![0x85; N], b".".to_vec()].concat();
    assert!(emitted(&parse(&tuples).unwrap()).is_ok());
}
