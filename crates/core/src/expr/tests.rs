//! What the constructors let through, and what they refuse.

use super::*;

fn bytes(arena: &mut Arena, n: u8) -> NodeId {
    arena.inline((0..n).collect::<Vec<u8>>()).unwrap()
}

#[test]
fn views_are_proved() {
    let mut arena = Arena::default();
    let of = bytes(&mut arena, 12);
    let dims = |list: &[(u64, i64)]| -> Vec<Dim> {
        list.iter().map(|&(count, stride)| Dim { count, stride }).collect()
    };
    assert_eq!(arena.view(of, 0, &dims(&[(3, 4), (4, 1)])).unwrap(), of);
    assert!(arena.view(of, 0, &dims(&[(4, 1), (3, 4)])).is_ok());
    assert!(arena.view(of, 11, &dims(&[(12, -1)])).is_ok());
    assert!(arena.view(of, 10, &dims(&[(12, -1)])).is_err());
    assert!(arena.view(of, 1, &dims(&[(12, 1)])).is_err());
    assert!(arena.view(of, 99, &dims(&[(0, 5)])).is_ok());
    assert!(arena.view(of, 0, &dims(&[(1 << 40, 0), (1 << 40, 0)])).is_err());
    assert!(arena.view(of, 0, &dims(&[(2, i64::MAX)])).is_err());
}

#[test]
fn assembled_parts_must_tile() {
    let mut arena = Arena::default();
    let two = bytes(&mut arena, 2);
    let part = |lo: [u64; 2], extent: [u64; 2]| Part { lo: lo.into(), extent: extent.into(), node: two };
    assert!(arena.assemble(&[2, 2], vec![part([0, 0], [2, 1]), part([0, 1], [2, 1])]).is_ok());
    assert!(arena.assemble(&[2, 2], vec![part([0, 0], [2, 1]), part([0, 0], [2, 1])]).is_err());
    assert!(arena.assemble(&[2, 2], vec![part([0, 0], [2, 1])]).is_err());
    assert!(arena.assemble(&[2, 2], vec![part([0, 0], [2, 1]), part([1, 1], [2, 1])]).is_err());
    assert!(arena.assemble(&[2, 2], vec![part([0, 0], [2, 1]), part([u64::MAX, 1], [2, 1])]).is_err());
}

#[test]
fn text_is_stable() {
    let mut arena = Arena::default();
    let region = arena.region(FileId(0), 8, 24).unwrap();
    let floats = arena.decode(region, DType::F32, 6, Packing::BIG).unwrap();
    let rows = arena.from_column_major(floats, &[2, 3]).unwrap();
    let half = arena.cast(rows, DType::F16).unwrap();
    assert_eq!(
        arena.text(half, 100),
        "%0 = u8[24] region file0@8; %1 = f32[6] decode Big/Low %0; %2 = f32[6] view %1+0 [2*1 3*2]; \
         %3 = f16[6] Cast %2"
    );
}
