//! Objects that are tensors, and objects that only look like it.

use super::*;
use crate::npy::MemoryOrder;
use modelferry_core::DType;
use modelferry_core::error::ErrorKind;

/// The tensor that `pickle` makes of storage "0", which has as many floats as asked for, and of nothing else.
fn of(pickle: &[u8], n_floats: usize) -> Result<Option<TensorSpec>> {
    root_of(&holding(pickle, &[("0", &vec![0; 4 * n_floats])]))
}

fn floats(n: u8) -> Vec<u8> {
    storage("torch FloatStorage", "0", n)
}

#[track_caller]
fn strided(spec: Option<TensorSpec>) -> Strided {
    match spec.map(|spec| spec.data) {
        Some(Data::Strided(strided)) => strided,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_way_to_call_for_a_strided_tensor() {
    let (storage, six) = (floats(6), b"(K\x02K\x03t(K\x03K\x01t");
    let v2 = v2(&storage, 0, &[2, 3], &[3, 1]);
    let plain = [&b"ctorch._utils\n_rebuild_tensor\n("[..], &storage, b"K\x00", six, b"tR"].concat();
    let size = [
        &b"ctorch._utils\n_rebuild_tensor\n("[..],
        &storage,
        b"K\x00ctorch\nSize\n(K\x02K\x03t\x85R(K\x03K\x01ttR",
    ]
    .concat();
    let old = [&b"ctorch\nFloatTensor\n)\x81("[..], &storage, b"K\x00", six, b"tb"].concat();
    let older = [&b"ctorch.cuda\nFloatTensor\n)R("[..], &storage, b"K\x00", six, b"tb"].concat();
    let parameter = [b"ctorch._utils\n_rebuild_parameter\n(", &v2[..], b"\x88NtR"].concat();
    let with_state = [b"ctorch._utils\n_rebuild_parameter_with_state\n(", &v2[..], b"\x88N}tR"].concat();
    let variable = [b"ctorch.nn.parameter\nParameter\n", &plain[..], b"\x85R(\x88\x89}tb"].concat();
    let newobj =
        [b"ccopy_reg\n__newobj__\n(ctorch.nn.parameter\nParameter\n", &plain[..], b"tR(\x88\x89}tb"].concat();
    let args = [&b"("[..], &storage, b"K\x00", six, b"\x89Nt"].concat();
    let class = [
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\ncm\nMine\n",
        &args[..],
        b"NtR",
    ]
    .concat();
    let moved = [
        b"ctorch.tensor\n_rebuild_from_type\n(ctorch._utils\n_rebuild_tensor_v2\ncm\nMine\n",
        &args[..],
        b"}tR",
    ]
    .concat();
    let xla = [
        b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n(",
        &v2[..],
        b"ctorch\nbfloat16\nU\x03xla\x89tR",
    ]
    .concat();
    let expected = strided(of(&v2, 6).unwrap());
    assert_eq!((expected.storage, expected.offset, expected.byte_offset()), (0, 0, 0));
    assert_eq!((&*expected.size, &*expected.stride), (&[2, 3][..], &[3, 1][..]));
    for (pickle, is_parameter, has_class) in [
        (&plain, false, false),
        (&size, false, false),
        (&old, false, false),
        (&older, false, false),
        (&parameter, true, false),
        (&with_state, true, false),
        (&variable, true, false),
        (&newobj, true, false),
        (&class, false, true),
        (&moved, false, true),
        (&xla, false, false),
    ] {
        let spec = of(pickle, 6).unwrap().unwrap();
        let shown = String::from_utf8_lossy(pickle);
        assert_eq!((spec.is_parameter, spec.requires_grad), (is_parameter, is_parameter), "{shown}");
        assert_eq!(spec.class.is_some(), has_class, "{shown}");
        assert_eq!(spec.cast.is_some(), pickle == &xla);
        assert_eq!(spec.size(), Some(&[2, 3][..]));
        assert_eq!(strided(Some(spec)), expected, "{shown}");
    }
}

#[test]
fn every_storage_class_and_every_untyped_type() {
    for (class, dtype, width) in [
        ("torch DoubleStorage", DType::F64, 8),
        ("torch FloatStorage", DType::F32, 4),
        ("torch.cuda HalfStorage", DType::F16, 2),
        ("torch BFloat16Storage", DType::Bf16, 2),
        ("torch LongStorage", DType::I64, 8),
        ("torch IntStorage", DType::I32, 4),
        ("torch ShortStorage", DType::I16, 2),
        ("torch CharStorage", DType::I8, 1),
        ("torch ByteStorage", DType::U8, 1),
        ("torch BoolStorage", DType::Bool, 1),
        ("torch ComplexDoubleStorage", DType::C128, 16),
        ("torch ComplexFloatStorage", DType::C64, 8),
        ("torch QInt8Storage", DType::I8, 1),
        ("torch QUInt8Storage", DType::U8, 1),
        ("torch QInt32Storage", DType::I32, 4),
    ] {
        let bytes = holding(&v2(&storage(class, "k", 3), 1, &[2], &[1]), &[("k", &vec![0; 3 * width])]);
        let found = strided(root_of(&bytes).unwrap());
        assert_eq!((found.element.dtype, found.byte_offset()), (dtype, width as u64), "{class}");
    }
    for (name, dtype, width) in [
        ("float8_e4m3fn", DType::F8E4M3, 1),
        ("float8_e5m2fnuz", DType::F8E5M2Fnuz, 1),
        ("float4_e2m1fn_x2", DType::F4E2M1, 1),
        ("uint16", DType::U16, 2),
        ("uint32", DType::U32, 4),
        ("uint64", DType::U64, 8),
        ("complex32", DType::C32, 4),
        ("bits16", DType::Opaque { elements: 1, bytes: 2 }, 2),
    ] {
        let storage = storage("torch.storage UntypedStorage", "0", 3 * width);
        let call = |tail: &[u8]| {
            let dtype = format!("ctorch\n{name}\n");
            [
                b"ctorch._utils\n_rebuild_tensor_v3\n(",
                &storage[..],
                b"K\x01(K\x02t(K\x01t\x89N",
                dtype.as_bytes(),
                tail,
                b"tR",
            ]
            .concat()
        };
        let data = vec![0; 3 * usize::from(width)];
        let found = strided(root_of(&holding(&call(b""), &[("0", &data)])).unwrap());
        assert_eq!((found.element.dtype, found.byte_offset()), (dtype, width.into()), "{name}");
        let found = strided(root_of(&holding(&call(b"}U\x04conj\x88s"), &[("0", &data)])).unwrap());
        assert!(found.conj && !found.neg);
    }
    // Two values a byte, and rows that begin at whole ones.
    let quarter = v2(&storage("torch QUInt4x2Storage", "0", 4), 0, &[2, 3], &[3, 1]);
    let found = strided(root_of(&holding(&quarter, &[("0", &[0; 4])])).unwrap());
    assert_eq!((found.element.packed, found.element.dtype), (Packed::Items(2), DType::U4));
}

#[test]
fn views_within_and_beyond_their_storage() {
    // Offset, extents, strides, and whether six elements are enough.
    let cases: [(u8, &[u8], &[u8], bool); 10] = [
        (0, &[6], &[1], true),
        (0, &[7], &[1], false),
        (5, &[], &[], true),
        (6, &[], &[], false),
        (1, &[3, 2], &[2, 1], false),
        (0, &[3, 2], &[1, 3], true),
        (0, &[3, 2], &[2, 3], false),
        (5, &[255, 255], &[0, 0], true),
        (255, &[0, 255], &[255, 255], true),
        (0, &[1, 6], &[255, 1], true),
    ];
    for (offset, size, stride, fits) in cases {
        let outcome = of(&v2(&floats(6), offset, size, stride), 6);
        assert_eq!(outcome.is_ok(), fits, "{offset} {size:?} {stride:?}");
    }
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let wide = [
        &b"ctorch._utils\n_rebuild_tensor\n("[..],
        &floats(6),
        b"K\x00(",
        huge,
        huge,
        b"t(",
        huge,
        huge,
        b"ttR",
    ]
    .concat();
    assert_eq!(of(&wide, 6).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn faults_are_named() {
    let tensor = |args: &[u8]| [b"ctorch._utils\n_rebuild_tensor\n(", args, b"tR"].concat();
    let with = |storage: &[u8]| tensor(&[storage, b"K\x00(K\x02t(K\x01t"].concat());
    let six = floats(6);
    let cases: [(Vec<u8>, &str); 20] = [
        (with(b"N"), "m: a tensor's storage is none"),
        (with(b"K\x01Q"), "m: a tensor's storage is none"),
        (with(b"(U\x06moduletQ"), "m: a tensor's storage is none"),
        (
            with(b"(U\x07storagetQ"),
            "m: a reference to a storage has the wrong number of parts, expected 5 or 6, found 1",
        ),
        (with(b"(U\x07storageNNNNtQ"), "m: a storage is of a class that we do not know"),
        (
            with(b"(U\x07storagecos\nsystem\nU\x010U\x03cpuK\x06tQ"),
            "m: a storage is of a class that we do not know, found \"os.system\"",
        ),
        (with(b"(U\x07storagectorch\nFloatStorage\n]U\x03cpuK\x06tQ"), "m: the key of a storage is no text"),
        (
            with(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ\xff\xff\xff\xfftQ"),
            "m: the length of a storage is no whole number",
        ),
        (
            with(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06K\x01tQ"),
            "m: a part of a storage is no tuple of three",
        ),
        (
            with(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06(NK\x05K\x02ttQ"),
            "m: a part of a storage lies outside of it, expected at most 6 elements",
        ),
        (with(&storage("torch FloatStorage", "9", 6)), "m: a tensor's storage is not there, found \"9\""),
        (
            with(&floats(7)),
            "m: byte 256: a storage is not as long as it says, expected 28 bytes, found 24 bytes",
        ),
        (
            tensor(&[&six[..], b"K\x05(K\x02t(K\x01t"].concat()),
            "m: byte 256: a tensor reaches beyond its storage, expected at most 24 bytes, found 28 bytes",
        ),
        (
            tensor(&[&six[..], b"J\xff\xff\xff\xff(K\x02t(K\x01t"].concat()),
            "m: the offset of a tensor in its storage is no whole number",
        ),
        (
            tensor(&[&six[..], b"K\x00(J\xff\xff\xff\xfft(K\x01t"].concat()),
            "m: the extents of a tensor are no whole numbers",
        ),
        (
            tensor(&[&six[..], b"K\x00(K\x01t(K\x01K\x01t"].concat()),
            "m: a tensor has as many strides as extents, expected 1, found 2",
        ),
        (
            tensor(&six),
            "m: a call that makes a tensor has the wrong number of arguments, found 1 of \"_rebuild_tensor\"",
        ),
        (
            [&b"ctorch\nLongTensor\n)\x81("[..], &six, b"K\x00(K\x02t(K\x01ttb"].concat(),
            "m: a tensor's class and its storage's do not fit, expected int64, found float32",
        ),
        (b"ctorch._utils\n_rebuild_parameter\n(N\x88NtR".to_vec(), "m: what should be a tensor is none"),
        (
            b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat7\n))\x89tR".to_vec(),
            "m: a tensor is of a type that we do not know, found \"float7\"",
        ),
    ];
    same_messages(cases.map(|(pickle, expected)| {
        let outcome = of(&pickle, 6);
        // Positions in the archive move with the pickle's length, within its alignment.
        let message = outcome.map_or_else(|error| error.to_string(), |spec| format!("{spec:?}"));
        (message.replace("byte 192", "byte 256").replace("byte 320", "byte 256"), expected)
    }));
}

#[test]
fn what_is_no_tensor() {
    for pickle in [
        &b"N"[..],
        b"cos\nsystem\n(U\x04exitt",
        b"cos\nsystem\n(U\x04exittR",
        b"ctorch._utils\n_something\n)R",
        b"ctorch\nSize\n)R",
        b"ctorch\ndevice\n(U\x03cputR",
        b"ccollections\nOrderedDict\n)R",
        b"]]\x85R",
    ] {
        assert_eq!(of(pickle, 0).unwrap(), None, "{:?}", String::from_utf8_lossy(pickle));
    }
}

#[test]
fn quantized_and_sparse_tensors_have_parts() {
    let codes = storage("torch QInt8Storage", "q", 6);
    let scales = v2(&storage("torch DoubleStorage", "s", 2), 0, &[2], &[1]);
    let zeros = v2(&storage("torch LongStorage", "z", 2), 0, &[2], &[1]);
    let call = |quantizer: &[u8]| {
        let parts: [&[u8]; 4] =
            [b"ctorch._utils\n_rebuild_qtensor\n(", &codes, b"K\x00(K\x02K\x03t(K\x03K\x01t", quantizer];
        let bytes = [&parts.concat()[..], b"\x89NtR"].concat();
        root_of(&holding(&bytes, &[("q", &[0; 6]), ("s", &[0; 16]), ("z", &[0; 16])]))
    };
    let spec = call(b"(ctorch\nper_tensor_affine\nG\x3f\xe0\0\0\0\0\0\0K\x03t").unwrap().unwrap();
    let Data::Quantized { codes, quantizer } = spec.data else { panic!("{spec:?}") };
    assert_eq!(codes.element.name, "qint8");
    assert_eq!(quantizer, Quantizer::PerTensor { scale: 0.5, zero_point: 3 });
    let per_channel =
        |axis: u8| [b"(ctorch\nper_channel_affine\n", &scales[..], &zeros, b"K", &[axis], b"t"].concat();
    let spec = call(&per_channel(0)).unwrap().unwrap();
    assert!(matches!(spec.data, Data::Quantized { quantizer: Quantizer::PerChannel { axis: 0, .. }, .. }));
    assert_eq!(
        call(&per_channel(1)).unwrap_err().to_string(),
        "m: a tensor has a scale and a zero point for each channel, expected 3"
    );
    assert_eq!(call(&per_channel(2)).unwrap_err().to_string(), "m: the quantizer of a tensor is malformed");

    let layout = |name: &str| [b"ctorch.serialization\n_get_layout\n(", &text(name)[..], b"tR"].concat();
    let sparse = |name: &str, parts: &[&[u8]]| {
        let parts = [&b"("[..], &parts.concat(), b"ctorch\nSize\n(K\x04K\x05t\x85Rt"].concat();
        let bytes = [b"ctorch._utils\n_rebuild_sparse_tensor\n(", &layout(name)[..], &parts, b"tR"].concat();
        root_of(&holding(&bytes, &[("s", &[0; 16]), ("z", &[0; 16])]))
    };
    for (name, layout, parts) in [
        ("torch.sparse_coo", Layout::Coo, &[&zeros[..], &scales][..]),
        ("torch.sparse_csr", Layout::Csr, &[&zeros, &zeros, &scales]),
        ("torch.sparse_bsc", Layout::Bsc, &[&zeros, &zeros, &scales]),
    ] {
        let spec = sparse(name, parts).unwrap().unwrap();
        let Data::Sparse { layout: found, size, parts: found_parts } = spec.data else { panic!("{spec:?}") };
        assert_eq!((found, &*size, found_parts.len()), (layout, &[4, 5][..], parts.len()));
    }
    let message = sparse("torch._mkldnn", &[&zeros, &scales]).unwrap_err().to_string();
    assert_eq!(message, "m: a tensor is sparse in a way that we do not know, found \"torch._mkldnn\"");
}

#[test]
fn tensors_within_tensors_end() {
    // Each holds the one before as all of its parts: 3^n tensors, were they followed.
    let one = b"q\x000ctorch._utils\n_rebuild_sparse_tensor\n(ctorch.serialization\n_get_layout\n(U\x10torch.sparse_csrtR\
        (h\x00h\x00h\x00)ttR";
    let pickle = [b"N".to_vec(), one.repeat(40)].concat();
    assert_eq!(of(&pickle, 0).unwrap_err().to_string(), "m: a part of a tensor has parts itself");
    // A parameter of a parameter of a parameter.
    let deep = [b"N".to_vec(), b"q\x000ctorch._utils\n_rebuild_parameter\n(h\x00\x88NtR".repeat(40)].concat();
    assert_eq!(of(&deep, 0).unwrap_err().kind(), ErrorKind::Limit);
    // One that is its own argument.
    let cycle = b"ctorch._utils\n_rebuild_parameter\n]q\x00Rq\x010h\x00(h\x01\x88Ne0h\x01";
    assert_eq!(of(cycle, 0).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn meta_tensors_have_no_bytes() {
    let spec =
        of(b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n(K\x02t(K\x01t\x88tR", 0);
    let spec = spec.unwrap().unwrap();
    assert!(matches!(&spec.data, Data::Meta { element, size } if element.name == "float32" && **size == [2]));
    assert!(spec.requires_grad);
}

/// As numpy 2.4 wrote them: `numpy.arange(2, dtype='>i2')` by protocols 2 and 5, `numpy.float32(2)`, and an array of
/// ml_dtypes' bfloat16.
#[test]
fn numpys_arrays_and_scalars() {
    let dtype = |name: &[u8], order: u8| {
        [
            b"cnumpy\ndtype\n(",
            name,
            b"\x89\x88tR(K\x03U\x01",
            &[order],
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        ]
        .concat()
    };
    let array = |dtype: &[u8], bytes: &[u8]| {
        [
            &b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02\x85"[..],
            dtype,
            b"\x89",
            bytes,
            b"tb",
        ]
        .concat()
    };
    let inline = |pickle: &[u8]| {
        let checkpoint = parse(&holding(pickle, &[])).unwrap();
        let spec = tensor(&checkpoint, checkpoint.tree.root().unwrap()).unwrap();
        match spec.map(|spec| spec.data) {
            Some(Data::Inline(inline)) => {
                let bytes = inline.bytes(&checkpoint.tree).map_err(|error| error.to_string());
                (inline, bytes)
            }
            other => panic!("{other:?}"),
        }
    };
    let i2 = dtype(b"U\x02i2", b'>');
    let is_expected = |pickle: &[u8]| {
        let (inline, bytes) = inline(pickle);
        assert_eq!(
            (inline.dtype, inline.byte_order, inline.order),
            (DType::I16, ByteOrder::Big, MemoryOrder::C)
        );
        assert_eq!((&*inline.size, inline.is_scalar), (&[2][..], false));
        assert_eq!(*bytes.unwrap(), [0, 0, 0, 1]);
    };
    let encoded = b"c_codecs\nencode\n(X\x04\x00\x00\x00\x00\x00\x00\x01U\x06latin1tR";
    is_expected(&array(&i2, encoded));
    is_expected(&array(&i2, b"C\x04\x00\x00\x00\x01"));
    is_expected(&array(&i2, b"U\x04\x00\x00\x00\x01"));
    let buffer = [
        &b"cnumpy._core.numeric\n_frombuffer\n(\x96\x04\0\0\0\0\0\0\0\x00\x00\x00\x01"[..],
        &i2,
        b"K\x02\x85U\x01CtR",
    ]
    .concat();
    is_expected(&buffer);
    let scalar =
        [b"cnumpy.core.multiarray\nscalar\n(", &dtype(b"U\x02f4", b'<')[..], b"C\x04\x00\x00\x00\x40tR"]
            .concat();
    let scalar = inline(&scalar).0;
    assert_eq!((scalar.dtype, scalar.is_scalar, scalar.size.len()), (DType::F32, true, 0));
    let (bf16, _) = inline(&array(&dtype(b"cml_dtypes\nbfloat16\n", b'<'), b"C\x04\x00\x00\x80?"));
    assert_eq!((bf16.dtype, bf16.byte_order), (DType::Bf16, ByteOrder::Little));
    // Strings, objects and structures are no tensors.
    for name in [&b"U\x02S3"[..], b"U\x02O8", b"U\x02V4", b"(tR"] {
        assert!(!matches!(of(&array(&dtype(name, b'|'), b"]"), 0), Ok(Some(_))), "{name:?}");
    }
    assert_eq!(
        inline(&array(&i2, b"C\x03\x00\x00\x00")).1.unwrap_err(),
        "a numpy array has the wrong number of bytes, expected 4 bytes, found 3 bytes"
    );
    assert_eq!(inline(&array(&i2, b"N")).1.unwrap_err(), "a numpy array has no bytes");
}

#[test]
fn distributed_tensors_are_a_part_and_a_place() {
    let local = v2(&floats(6), 0, &[3, 2], &[2, 1]);
    let call = |class: &str, placements: &[u8]| {
        let args: [&[u8]; 13] = [
            b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_wrapper_subclass\nc",
            class.as_bytes(),
            b"\nq\x01(h\x01ctorch\nfloat32\n(K\x06K\x02t(K\x02K\x01tK\x00NN\x89t",
            // Attributes of a class with slots.
            b"(N}(U\x0d_local_tensor",
            &local,
            b"U\x05_speccm\nDTensorSpec\n)\x81}(U\x04meshcm\nDeviceMesh\n)\x81}(",
            b"U\x05_rankK\x01U\x12_coordinate_on_dim(K\x00K\x01K\x00K\x00tub",
            b"U\x0aplacements(",
            placements,
            b"tub",
            b"ut",
            b"tR",
            b"",
        ];
        of(&args.concat(), 6)
    };
    let class = "torch.distributed.tensor\nDTensor";
    let shard = b"ctorch.distributed.tensor.placement_types\nShard\n)\x81}U\x03dimK\x00sb";
    let replicate = b"ctorch.distributed._tensor.placement_types\nReplicate\n)\x81";
    let strided = b"ctorch.distributed.tensor.placement_types\n_StridedShard\n)\x81}(U\x03dimK\x01U\x0csplit_factorK\x02ub";
    let partial = b"ctorch.distributed.tensor.placement_types\nPartial\n)\x81}U\x09reduce_opU\x03sumsb";
    let spec = call(class, &[&shard[..], replicate, strided, partial].concat()).unwrap().unwrap();
    let Data::Distributed(distributed) = spec.data else { panic!("{spec:?}") };
    assert_eq!(*distributed.size, [6, 2]);
    assert_eq!(distributed.local.size(), Some(&[3, 2][..]));
    assert_eq!(
        distributed.placements,
        [
            Placement::Shard(0),
            Placement::Replicate,
            Placement::StridedShard { dim: 1, split_factor: 2 },
            Placement::Partial,
        ]
    );
    assert_eq!((distributed.rank, distributed.coordinate), (Some(1), Some(vec![0, 1, 0, 0])));
    let message = call(class, b"cos\nsystem\n)\x81").unwrap_err().to_string();
    assert_eq!(message, "m: the placement of a distributed tensor is malformed");
    // Classes of other programs keep their secrets.
    let spec = call("torchao\nAffineQuantizedTensor", shard).unwrap().unwrap();
    assert_eq!((spec.data, spec.class.is_some()), (Data::Opaque, true));
}
