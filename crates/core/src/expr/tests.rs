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

#[test]
fn nodes_of_another_model_are_taken_over() {
    let mut arena = Arena::default();
    bytes(&mut arena, 2);
    let mut other = Arena::default();
    let region = other.region(FileId(1), 4, 8).unwrap();
    let made = other.plugin(2, 7, SourceAccess::Sequential, 8).unwrap();
    let both = [region, made].map(|of| other.decode(of, DType::F32, 2, Packing::default()).unwrap());
    let joined = other
        .assemble(
            &[2, 2],
            both.iter()
                .enumerate()
                .map(|(at, &node)| Part { lo: [at as u64, 0].into(), extent: [1, 2].into(), node })
                .collect(),
        )
        .unwrap();
    let mapped = other.map(ScalarFn::SubMul, &[joined, joined, joined], DType::F32).unwrap();
    let folded = other.reduce(ReduceFn::AbsMax, mapped, 2).unwrap();
    let text = other.text(folded, 8);
    let moved = arena.append(other, 10, 20).unwrap();
    assert_eq!(moved.id(region).idx(), 1);
    assert!(matches!(arena[moved.id(region)].op, Op::Region { file: FileId(11), at: 4 }));
    assert!(matches!(arena[moved.id(made)].op, Op::Plugin { source: 22, .. }));
    assert!(arena.children(moved.id(mapped)).eq([moved.id(joined); 3]));
    assert_ne!(text, "");
    for (id, _) in arena.iter() {
        assert!(arena.children(id).all(|child| child < id));
    }
}

#[test]
fn axes_change_places() {
    let mut arena = Arena::default();
    let of = bytes(&mut arena, 24);
    assert_eq!(arena.transpose(of, &[4, 6], &[]).unwrap(), of);
    assert_eq!(arena.transpose(of, &[4, 6], &[0, 1]).unwrap(), of);
    let turned = arena.transpose(of, &[4, 6], &[1, 0]).unwrap();
    let Op::View { dims, .. } = &arena[turned].op else { panic!() };
    assert_eq!(**dims, [Dim { count: 6, stride: 1 }, Dim { count: 4, stride: 6 }]);
    // [2, 3, 4] whose axes go to 1, 2, 0: a tensor of [4, 2, 3].
    let turned = arena.transpose(of, &[2, 3, 4], &[1, 2, 0]).unwrap();
    let Op::View { dims, .. } = &arena[turned].op else { panic!() };
    assert_eq!(**dims, [Dim { count: 4, stride: 1 }, Dim { count: 6, stride: 4 }]);
    for axes in [&[0, 0][..], &[0], &[0, 2], &[0, 1, 2]] {
        assert!(arena.transpose(of, &[4, 6], axes).is_err(), "{axes:?}");
    }
    let blocks = bytes(&mut arena, 144);
    let blocks = arena.decode(blocks, DType::Q4K, 1, Packing::default()).unwrap();
    assert!(arena.transpose(blocks, &[1, 256], &[1, 0]).is_err());
}
