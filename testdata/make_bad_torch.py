"""Damaged and hostile torch files. Each name says what is wrong, and nothing else is."""

import struct

import rawtorch as raw
from rawfiles import Member, deflate, zip_file
from rawtorch import (APPEND, APPENDS, BINPERSID, BUILD, DUP, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE, FALSE, MARK, NEWOBJ, NONE,
                      POP, POP_MARK, REDUCE, SETITEM, SETITEMS, TUPLE, TUPLE1, TUPLE2, archive, call, get, ints, mapping,
                      members, named, number, pickled, put, row, state, storage, tensor, text)

DATA = struct.pack("<4f", 1, 2, 3, 4)
ONE = {"0": DATA}
COMMAND = "touch pwned"
DEEP = 100_000
FLOOD = 3_000_000
U32, U64, I64 = (1 << 32) - 1, (1 << 64) - 1, (1 << 63) - 1


def zipped(pickle, records=None, **how):
    """An archive of one storage of four f32, or not quite."""
    return archive(pickle, ONE if records is None else records, **how)


def one(*args, records=None, **how):
    """A state dict of one tensor, or not quite."""
    return zipped(state(tensor(*args, **how)), records)


def deflated(body, long=0):
    """An archive whose pickle is deflated if it is long, so that a small file unpacks to a long one."""
    entries = members(pickled(body), ONE)
    entries[0].deflate = len(body) > long
    return zip_file(entries)


def inside(body):
    """A state dict with a good tensor and one more value."""
    return deflated(mapping((text("w"), tensor()), (text("x"), body)), long=10_000)


def before(body):
    """A state dict with a good tensor; these opcodes run first and leave nothing on the stack."""
    return deflated(body + mapping((text("w"), tensor())), long=10_000)


def laughs(start, step, end=b"", times=20):
    """A value that holds ten of a value that holds ten …: shared, never copied, and endless to whoever walks it."""
    out = start + put(0)
    for i in range(times):
        out += POP + step(get(i)) + put(i + 1)
    return out + end


def memo():
    """References to what was never put."""
    yield "memo-get-unset", inside(get(77))
    yield "memo-get-2-pow-32-minus-1", inside(get(U32))
    yield "memo-put-2-pow-32-minus-1", inside(NONE + put(U32))
    yield "memo-put-far", inside(NONE + put(1 << 30))
    yield "memo-put-negative-text", inside(NONE + b"p-1\n")
    yield "memo-get-text-not-number", inside(b"gx\n")
    yield "memo-put-on-empty-stack", zipped(b"\x80\x02" + put(0) + b".")
    yield "memo-put-on-mark", inside(MARK + put(0) + TUPLE)
    yield "memo-memoize-on-empty-stack", zipped(b"\x80\x04\x94.")
    yield "memo-of-popped-value-unset", before(MARK + NONE + put(3) + POP_MARK + get(4) + POP)


def shapes():
    """Nesting, cycles and sharing."""
    for name, openers, closers in (("list", EMPTY_LIST, APPEND), ("dict", EMPTY_DICT + NONE, SETITEM)):
        yield f"nesting-{name}-{DEEP}", inside(openers * DEEP + NONE + closers * DEEP)
        yield f"nesting-{name}-{DEEP}-popped", before(openers * DEEP + NONE + closers * DEEP + POP)
    yield f"nesting-tuple-{DEEP}", inside(NONE + TUPLE1 * DEEP)
    yield f"nesting-tuple-{DEEP}-popped", before(NONE + TUPLE1 * DEEP + POP)
    yield f"nesting-marks-{DEEP}", inside(MARK * DEEP + TUPLE * DEEP)
    yield f"nesting-marks-{DEEP}-unclosed", zipped(b"\x80\x02" + MARK * DEEP + b".")
    yield f"nesting-reduce-{DEEP}", inside(named("a", "b") * 2000 + EMPTY_TUPLE + (REDUCE + TUPLE1) * 1999 + REDUCE)
    yield f"nesting-build-{DEEP}", inside(named("a", "b") + EMPTY_TUPLE + REDUCE + (b"2" + BUILD) * 1000)
    looped = EMPTY_LIST + put(0) + get(0) + APPEND
    yield "cycle-list", inside(looped)
    yield "cycle-list-popped", before(looped + POP)
    yield "cycle-dict", inside(EMPTY_DICT + put(0) + text("k") + get(0) + SETITEM)
    yield "cycle-dict-top", zipped(pickled(EMPTY_DICT + put(0) + text("w") + tensor() + SETITEM + text("self") + get(0) + SETITEM))
    yield "cycle-through-tuple", inside(EMPTY_LIST + put(0) + get(0) + TUPLE1 + put(1) + APPEND + get(1))
    yield "cycle-through-build", inside(named("a", "B") + EMPTY_TUPLE + REDUCE + put(0) + get(0) + BUILD)
    yield "cycle-state-dict-in-itself", zipped(pickled(
        EMPTY_DICT + put(0) + text("state_dict") + get(0) + SETITEM + text("w") + tensor() + SETITEM))
    yield "laughs-tuples", inside(laughs(EMPTY_TUPLE, lambda got: MARK + got * 10 + TUPLE))
    yield "laughs-lists", inside(laughs(EMPTY_LIST, lambda got: EMPTY_LIST + MARK + got * 10 + APPENDS))
    yield "laughs-dicts", inside(laughs(EMPTY_DICT, lambda got: EMPTY_DICT + MARK + b"".join(
        number(i) + got for i in range(10)) + SETITEMS))
    yield "laughs-state-dicts", zipped(pickled(laughs(mapping((text("w"), tensor())), lambda got: EMPTY_DICT + MARK + b"".join(
        text(str(i)) + got for i in range(10)) + SETITEMS, times=9)))
    yield "laughs-tuple-as-key", inside(EMPTY_DICT + laughs(EMPTY_TUPLE, lambda got: MARK + got * 10 + TUPLE) + NONE + SETITEM)
    yield "laughs-dup", inside(NONE + (DUP + TUPLE2) * 64)


def floods():
    """Opcodes and bytes without end, in little room."""
    yield "flood-none-pop", deflated((NONE + POP) * FLOOD + mapping((text("w"), tensor())))
    yield "flood-none", deflated(NONE * FLOOD + mapping((text("w"), tensor())))
    yield "flood-marks", deflated(MARK * FLOOD)
    yield "flood-empty-lists", deflated(EMPTY_LIST * FLOOD)
    yield "flood-memo", deflated((NONE + POP) * 2 + NONE + b"\x94" * FLOOD)
    yield "flood-globals", deflated(named("a", "b") * (FLOOD // 24))
    yield "flood-dup", deflated(text("x" * 200) + DUP * FLOOD)
    yield "flood-text-8-mib", deflated(text("x" * (8 << 20)) + POP + mapping((text("w"), tensor())))
    yield "flood-same-key", deflated(EMPTY_DICT + (text("w") + NONE + SETITEM) * (FLOOD // 24))
    yield "flood-frames", deflated((b"\x95" + struct.pack("<Q", 0)) * (FLOOD // 8))
    many = b"".join(text(str(i)) + get(0) for i in range(20_000))
    yield "flood-names-of-one-tensor", deflated(tensor() + put(0) + EMPTY_DICT + MARK + many + SETITEMS)


def lengths():
    """Opcodes whose length is a lie."""
    for name, head in (("text", b"X" + struct.pack("<I", U32)), ("text-8", b"\x8d" + struct.pack("<Q", U64)),
                       ("string", b"T" + struct.pack("<i", -1)), ("string-long", b"T" + struct.pack("<i", 1 << 30)),
                       ("bytes", b"B" + struct.pack("<I", U32)), ("bytes-8", b"\x8e" + struct.pack("<Q", U64)),
                       ("bytearray", b"\x96" + struct.pack("<Q", U64)), ("long-4", b"\x8b" + struct.pack("<i", I64 & 0x7FFFFFFF)),
                       ("long-4-negative", b"\x8b" + struct.pack("<i", -1)), ("long-1", b"\x8a\xff"), ("short-text", b"\x8c\xff"),
                       ("frame", b"\x95" + struct.pack("<Q", U64))):
        yield f"length-of-{name}", inside(head)
    yield "text-invalid-utf-8", inside(text(b"\xff\xfe"))
    yield "name-invalid-utf-8", zipped(pickled(mapping((text(b"\xff"), tensor()))))
    yield "global-without-newline", zipped(b"\x80\x02c" + b"a" * 200)
    yield "global-invalid-utf-8", inside(b"c\xff\n\xfe\n")
    yield "global-name-1-mib", deflated(named("a" * (1 << 20), "b"))
    yield "stack-global-of-numbers", inside(number(1) + number(2) + b"\x93")
    yield "int-text-not-number", inside(b"Ix\n")
    yield "int-text-long", inside(b"I" + b"9" * 100_000 + b"\n")
    yield "long-text-long", inside(b"L" + b"9" * 100_000 + b"L\n")
    yield "float-text-not-number", inside(b"Fx\n")
    yield "float-text-long", inside(b"F" + b"9" * 100_000 + b"\n")
    yield "string-text-unclosed", inside(b"S'abc\n")
    yield "unicode-text-bad-escape", inside(b"V\\uZZZZ\n")


def stack():
    """A machine asked for what is not on its stack, or what it does not know."""
    for name, code in (("reduce", REDUCE), ("build", BUILD), ("newobj", NEWOBJ), ("newobj-ex", b"\x92"), ("tuple-3", b"\x87"),
                       ("append", APPEND), ("setitem", SETITEM), ("pop", POP), ("dup", DUP), ("stop", b""),
                       ("persistent-id", BINPERSID), ("appends-without-mark", APPENDS), ("tuple-without-mark", TUPLE),
                       ("obj-without-mark", b"o"), ("inst-without-mark", b"ia\nb\n"), ("stack-global", b"\x93")):
        yield f"stack-empty-{name}", zipped(pickled(code))
    yield "stack-two-values", zipped(pickled(mapping((text("w"), tensor())) * 2))
    yield "stack-mark-at-stop", zipped(pickled(MARK + mapping((text("w"), tensor()))))
    yield "stack-setitems-odd", zipped(pickled(EMPTY_DICT + MARK + text("w") + SETITEMS))
    yield "stack-append-to-number", inside(number(1) + NONE + APPEND)
    yield "stack-setitem-on-tensor", inside(tensor() + text("a") + NONE + SETITEM)
    yield "stack-setitem-on-list", inside(EMPTY_LIST + text("a") + NONE + SETITEM)
    yield "stack-reduce-of-number", inside(number(1) + EMPTY_TUPLE + REDUCE)
    yield "stack-reduce-arguments-no-tuple", inside(named("a", "b") + number(1) + REDUCE)
    yield "stack-build-on-none", inside(NONE + EMPTY_DICT + BUILD)
    yield "opcode-unknown-0", inside(b"\x00")
    yield "opcode-unknown-255", inside(b"\xff")
    yield "opcode-next-buffer", inside(b"\x97")
    yield "opcode-readonly-buffer", inside(NONE + b"\x98")
    yield "opcode-extension-1", inside(b"\x82\x01")
    yield "opcode-extension-4", inside(b"\x84" + struct.pack("<i", 1))
    yield "protocol-6", zipped(state(tensor(), protocol=6))
    yield "protocol-255", zipped(state(tensor(), protocol=255))
    yield "protocol-in-the-middle", inside(b"\x80\x02" + NONE)
    yield "pickle-empty", zipped(b"")
    yield "pickle-without-stop", zipped(state(tensor())[:-1])
    yield "pickle-cut-in-half", zipped(state(tensor())[: len(state(tensor())) // 2])
    yield "pickle-after-stop", zipped(state(tensor()) + b"garbage")
    yield "pickle-is-text", zipped(b"weights, please")


def code():
    """Calls that would leave a mark. Some hide it where a reader may look no further; none may be resolved."""
    calls = {"os-system": call("os", "system", text(COMMAND)), "posix-system": call("posix", "system", text(COMMAND)),
             "eval": call("builtins", "eval", text(f"__import__('os').system('{COMMAND}')")),
             "exec": call("builtins", "exec", text("open('pwned', 'w')")),
             "open": call("builtins", "open", text("pwned"), text("w")),
             "python-2-eval": call("__builtin__", "eval", text("open('pwned', 'w')")),
             "subprocess": call("subprocess", "check_call", EMPTY_LIST + text("touch") + APPEND + text("pwned") + APPEND),
             "torch-load": call("torch", "load", text("pwned")), "runpy": call("runpy", "_run_code", text("open('pwned','w')"), EMPTY_DICT),
             "inst": MARK + text(COMMAND) + b"iposix\nsystem\n", "obj": MARK + named("posix", "system") + text(COMMAND) + b"o",
             "newobj": named("posix", "system") + row(text(COMMAND)) + NEWOBJ,
             "newobj-ex": named("posix", "system") + EMPTY_TUPLE + EMPTY_DICT + b"\x92",
             "stack-global": text("posix") + text("system") + b"\x93" + row(text(COMMAND)) + REDUCE,
             "dotted": text("os") + text("path.os.system") + b"\x93" + row(text(COMMAND)) + REDUCE,
             "build": named("a", "B") + EMPTY_TUPLE + NEWOBJ + mapping((text("__setstate__"), named("posix", "system"))) + BUILD
             + text(COMMAND) + BUILD}
    for name, body in calls.items():
        yield f"runs-{name}", inside(body)
    run = calls["posix-system"]
    yield "runs-popped", before(run + POP)
    yield "runs-as-whole", zipped(pickled(run))
    yield "runs-as-key", zipped(pickled(mapping((text("w"), tensor()), (run, NONE))))
    yield "runs-as-size", one(size=run)
    yield "runs-as-offset", one(offset=run)
    yield "runs-as-hooks", one(hooks=run)
    yield "runs-as-storage", one(run)
    yield "runs-as-persistent-id", zipped(pickled(mapping((text("w"), tensor()), (text("x"), run + BINPERSID))))
    yield "runs-as-storage-type", one(row(text("storage"), named("posix", "system"), text("0"), text("cpu"), number(4)) + BINPERSID)
    yield "runs-as-rebuild", zipped(pickled(mapping((text("w"), call("posix", "system", text(COMMAND), storage())))))
    yield "runs-after-stop", zipped(state(tensor()) + pickled(run))
    yield "runs-legacy", raw.legacy(pickled(mapping((text("x"), run))), {})
    yield "runs-legacy-first", pickled(run) + raw.legacy(pickled(EMPTY_DICT), {})
    yield "runs-legacy-keys", raw.legacy(pickled(EMPTY_DICT), {}, keys=run)
    yield "runs-raw", pickled(run)
    yield "runs-raw-protocol-0", f"cposix\nsystem\n(S'{COMMAND}'\ntR.".encode()


def views():
    """Tensors that do not fit their storages, and storages that do not fit their records."""
    yield "storage-longer-than-record", one(storage(numel=5))
    yield "storage-shorter-than-record", one(storage(numel=3), size=(3,))
    yield "storage-numel-0", one(storage(numel=0))
    yield "storage-numel-negative", one(storage(numel=-4))
    yield "storage-numel-2-pow-62", one(storage(numel=1 << 62))
    yield "storage-numel-2-pow-63", one(storage(numel=1 << 63))
    yield "storage-numel-2-pow-80", one(storage(numel=1 << 80))
    yield "storage-under-two-types", zipped(state(("a", tensor(storage())), ("b", tensor(storage(kind="IntStorage")))))
    yield "storage-under-two-sizes", zipped(state(("a", tensor(storage())), ("b", tensor(storage(numel=2), size=(2,)))))
    yield "storage-under-two-widths", zipped(state(("a", tensor(storage())), ("b", tensor(storage(kind="ByteStorage", numel=16), size=(16,)))))
    yield "view-beyond-storage", one(size=(5,))
    yield "view-beyond-storage-by-offset", one(offset=1)
    yield "view-beyond-storage-by-stride", one(size=(2, 2), stride=(4, 1))
    yield "view-offset-at-end", one(offset=4, size=(1,))
    yield "view-offset-2-pow-63-minus-1", one(offset=I64, size=(1,))
    yield "view-offset-2-pow-64", one(offset=1 << 64, size=(1,))
    yield "view-offset-negative", one(offset=-1, size=(2,))
    yield "view-size-negative", one(size=(-4,))
    yield "view-two-sizes-negative", one(size=(-2, -2), stride=(2, 1))
    yield "view-stride-negative", one(offset=3, stride=(-1,))
    yield "view-size-2-pow-63", one(size=(1 << 63,))
    yield "view-size-10-pow-400", one(size=(10**400,))
    yield "view-product-overflows", one(size=(1 << 32, 1 << 32), stride=(0, 0))
    yield "view-product-overflows-to-4", one(size=((1 << 63) - 1, 2, 2), stride=(0, 0, 0))
    yield "view-product-overflows-times-0", one(size=(1 << 62, 1 << 62, 0), stride=(1, 1, 1))
    yield "view-stride-overflows", one(size=(2, 2), stride=(I64, I64))
    yield "view-stride-times-size-overflows", one(size=(1 << 40,), stride=(1 << 40,))
    yield "view-rank-mismatch", one(size=(2, 2), stride=(1,))
    yield "view-rank-1000", one(size=(1,) * 1000, stride=(1,) * 1000)
    yield "view-size-float", one(size=row(b"G" + struct.pack(">d", 4.0)))
    yield "view-size-true", one(size=row(raw.TRUE))
    yield "view-size-text", one(size=row(text("4")))
    yield "view-size-number", one(size=number(4))
    yield "view-size-none", one(size=NONE)
    yield "view-offset-none", one(offset=NONE)
    yield "bomb-stride-0-16-tib", one(size=(1 << 42,), stride=(0,))
    yield "bomb-stride-0-2-pow-60", one(size=(1 << 60,), stride=(0,))
    yield "bomb-stride-0-many-names", zipped(state(*[(f"w{i}", tensor(size=(1 << 40,), stride=(0,))) for i in range(50)]))
    for name, args in (("missing", [storage(), number(0), ints((4,))]), ("none", []),
                       ("storage-is-tensor", [tensor(), number(0), ints((4,)), ints((1,)), FALSE, raw.HOOKS]),
                       ("storage-is-number", [number(0), number(0), ints((4,)), ints((1,)), FALSE, raw.HOOKS]),
                       ("too-many", [storage(), number(0), ints((4,)), ints((1,)), FALSE, raw.HOOKS, NONE, NONE, NONE])):
        yield f"rebuild-arguments-{name}", zipped(pickled(mapping((text("w"), call("torch._utils", "_rebuild_tensor_v2", *args)))))
    untyped = storage(kind="UntypedStorage", module="torch.storage", numel=16)
    third = [untyped, number(0), ints((4,)), ints((1,)), FALSE, raw.HOOKS]
    for name, dtype in (("unknown", named("torch", "float3")), ("number", number(6)), ("text", text("float32")), ("missing", b"")):
        yield f"rebuild-v3-dtype-{name}", zipped(pickled(mapping((text("w"), call("torch._utils", "_rebuild_tensor_v3", *third, dtype)))))
    yield "rebuild-v3-offset-in-elements", zipped(pickled(mapping((text("w"), call(
        "torch._utils", "_rebuild_tensor_v3", untyped, number(4), *third[2:], named("torch", "float32"))))))
    yield "rebuild-metadata-unknown", zipped(pickled(mapping((text("w"), call(
        "torch._utils", "_rebuild_tensor_v2", storage(), *third[1:], mapping((text("imaginary"), raw.TRUE)))))))
    yield "rebuild-conjugate-of-real", zipped(pickled(mapping((text("w"), call(
        "torch._utils", "_rebuild_tensor_v2", storage(), *third[1:], mapping((text("conj"), raw.TRUE)))))))
    yield "rebuild-parameter-of-none", zipped(pickled(mapping((text("w"), call(
        "torch._utils", "_rebuild_parameter", NONE, FALSE, raw.HOOKS)))))
    yield "rebuild-unknown", zipped(pickled(mapping((text("w"), call("torch._utils", "_rebuild_tensor_v9", storage())))))


def persistent():
    """Persistent ids of every wrong shape."""
    kind, key, cpu, four = named("torch", "FloatStorage"), text("0"), text("cpu"), number(4)
    yield "pid-number", one(number(0) + BINPERSID)
    yield "pid-text", one(text("0") + BINPERSID)
    yield "pid-none", one(NONE + BINPERSID)
    yield "pid-list", one(EMPTY_LIST + BINPERSID)
    yield "pid-empty", one(EMPTY_TUPLE + BINPERSID)
    yield "pid-opcode-of-protocol-0", one(b"P('storage', 0)\n")
    yield "pid-too-short", one(row(text("storage"), kind, key, cpu) + BINPERSID)
    yield "pid-too-long", one(row(text("storage"), kind, key, cpu, four, NONE, NONE) + BINPERSID)
    yield "pid-tag-unknown", one(row(text("tensor"), kind, key, cpu, four) + BINPERSID)
    yield "pid-tag-number", one(row(number(1), kind, key, cpu, four) + BINPERSID)
    yield "pid-module", one(row(text("module"), kind, text("a.py"), text("class A: pass")) + BINPERSID)
    yield "pid-type-unknown", one(storage(kind="QuadrupleStorage"))
    yield "pid-type-of-other-module", one(storage(module="not_torch"))
    yield "pid-type-text", one(row(text("storage"), text("FloatStorage"), key, cpu, four) + BINPERSID)
    yield "pid-key-missing", one(storage("1"))
    yield "pid-key-empty", one(storage(""))
    yield "pid-key-number", one(row(text("storage"), kind, number(0), cpu, four) + BINPERSID)
    yield "pid-key-path", one(storage("../data.pkl"))
    yield "pid-key-nul", one(storage("0\0"))
    yield "pid-location-number", one(row(text("storage"), kind, key, number(0), four) + BINPERSID)
    yield "pid-location-meta", one(storage(location="meta"))
    yield "pid-numel-text", one(row(text("storage"), kind, key, cpu, text("4")) + BINPERSID)
    yield "pid-numel-none", one(row(text("storage"), kind, key, cpu, NONE) + BINPERSID)
    yield "pid-numel-float", one(row(text("storage"), kind, key, cpu, b"G" + struct.pack(">d", 4.0)) + BINPERSID)
    yield "pid-numel-true", one(row(text("storage"), kind, key, cpu, raw.TRUE) + BINPERSID)


def archives():
    """Archives that are wrong around a good pickle."""
    good = members(state(tensor()), ONE)
    whole = zip_file(good)
    for name, end in (("3", 3), ("30", 30), ("half", len(whole) // 2), ("directory", -60), ("end-record", -10), ("one-byte", -1)):
        yield f"file-cut-{name}", whole[:end]
    yield "file-empty", b""
    yield "file-prefix", b"\0" * 64 + whole
    yield "file-trailing", whole + b"trailing"
    pkl = Member(b"archive/data.pkl", state(tensor()))
    yield "entry-data-pkl-twice", zip_file([pkl, *good])
    yield "entry-data-pkl-twice-other", zip_file([*good, Member(b"archive/data.pkl", pickled(EMPTY_DICT))])
    yield "entry-data-pkl-case-variant", zip_file([*good, Member(b"archive/DATA.PKL", pickled(EMPTY_DICT))])
    yield "entry-record-twice", zip_file([*good, Member(b"archive/data/0", DATA[::-1])])
    yield "entry-record-case-variant", zip_file([*good, Member(b"archive/DATA/0", DATA[::-1])])
    yield "entry-data-pkl-missing", zip_file(good[1:])
    yield "entry-record-missing", zip_file([m for m in good if m.name != b"archive/data/0"])
    yield "entry-data-pkl-empty-name", zip_file([Member(b"", b""), *good])
    yield "root-none", zip_file([Member(m.name.removeprefix(b"archive/"), m.data) for m in good])
    yield "root-nested", zip_file([Member(b"a/b/" + m.name.removeprefix(b"archive/"), m.data) for m in good])
    yield "root-parent-folder", zip_file([Member(b"../" + m.name.removeprefix(b"archive/"), m.data) for m in good])
    yield "root-two", zip_file([*good, *members(pickled(EMPTY_DICT), {}, "other")])
    yield "root-of-record-differs", zip_file([m for m in good if b"data/" not in m.name] + [Member(b"other/data/0", DATA)])
    for name, value in (("0", b"0\n"), ("11", b"11\n"), ("text", b"three\n"), ("empty", b""), ("negative", b"-3\n"),
                        ("long", b"3" * 1000), ("missing", None)):
        yield f"version-{name}", zipped(state(tensor()), version=value)
    for name, value in (("middle", b"middle"), ("newline", b"little\n"), ("empty", b""), ("capitals", b"LITTLE"),
                        ("invalid-utf-8", b"\xff"), ("long", b"little" * 1000)):
        yield f"byteorder-{name}", zipped(state(tensor()), byteorder=value)
    for target, at in (("record", b"archive/data/0"), ("data-pkl", b"archive/data.pkl")):
        yield f"crc-wrong-{target}", zip_file([Member(m.name, m.data, **({"local": {"crc": 1}, "central": {"crc": 1}} if m.name == at else {}))
                                               for m in good])
    yield "crc-wrong-record-deflated", zip_file([Member(m.name, m.data, deflate=b"/0" in m.name, **(
        {"local": {"crc": 1}, "central": {"crc": 1}} if b"/0" in m.name else {})) for m in good])
    yield "data-flipped-bit", zip_file([Member(m.name, m.data, body=flip(m.data) if m.name == b"archive/data/0" else None) for m in good])
    for target in (b"archive/data.pkl", b"archive/data/0"):
        name = "record" if target.endswith(b"0") else "data-pkl"
        yield f"deflate-cut-{name}", zip_file([Member(m.name, m.data, deflate=m.name == target,
                                                      body=deflate(m.data)[:-3] if m.name == target else None) for m in good])
    huge = Member(b"archive/data/0", bytes(3_000_000), deflate=True, local={"size": 16}, central={"size": 16})
    yield "deflate-bomb-record", zip_file([m for m in good if m.name != b"archive/data/0"] + [huge])
    yield "entry-encrypted", zip_file([Member(m.name, m.data, flags=1) for m in good])
    yield "constants-missing-data-pkl", zip_file([Member(b"archive/constants.pkl", pickled(EMPTY_TUPLE)), Member(b"archive/version", b"3\n")])
    yield "pt2-weight-missing", pt2({"0": DATA}, "weight_9")
    yield "pt2-config-not-json", pt2({"0": DATA}, None)
    yield "pt2-weight-too-short", pt2({"0": DATA[:8]}, "weight_0")


def pt2(records, path):
    """An exported program of one weight; `path` is what its config says, None for a config that is none."""
    meta = (f'{{"config":{{"w":{{"path_name":"{path}","is_param":true,"use_pickle":false,"tensor_meta":{{"dtype":7,"sizes":'
            '[{"as_int":4}],"requires_grad":true,"device":{"type":"cpu","index":null},"strides":[{"as_int":1}],"storage_offset":'
            '{"as_int":0},"layout":7}}}}').encode()
    entries = [Member(f"a/data/weights/weight_{key}".encode(), data) for key, data in records.items()]
    return zip_file([*entries, Member(b"a/data/weights/model_weights_config.json", meta if path else b"{"),
                     Member(b"a/archive_format", b"pt2"), Member(b"a/archive_version", b"0"), Member(b"a/byteorder", b"little"),
                     Member(b"a/models/model.json", b"{}"), Member(b"a/.data/version", b"3\n")])


def flip(data):
    """The data with one bit flipped."""
    return data[:5] + bytes([data[5] ^ 4]) + data[6:]


def streams():
    """Legacy streams."""
    def place(key="1", **how):
        return storage(key, more=[NONE], **how)

    def made(item=None, storages=None, **how):
        return raw.legacy(state(tensor(place()) if item is None else item), {"1": (4, DATA)} if storages is None else storages, **how)

    good = made()
    firsts = [len(pickled(number(raw.MAGIC))), len(pickled(number(raw.MAGIC)) + pickled(number(raw.VERSION)))]
    for name, end in (("in-magic", 8), ("after-magic", firsts[0]), ("after-version", firsts[1]), ("in-sys-info", firsts[1] + 20),
                      ("in-tree", good.index(b"_rebuild")), ("before-keys", good.rindex(b"\x80\x02")), ("in-numel", -20),
                      ("before-data", -16), ("in-data", -5), ("one-byte", -1)):
        yield f"legacy-cut-{name}", good[:end]
    yield "legacy-magic-wrong", made(magic=raw.MAGIC + 1)
    yield "legacy-magic-text", pickled(text("magic")) + good[firsts[0]:]
    yield "legacy-version-wrong", made(version=1002)
    yield "legacy-sys-info-list", good.replace(raw.sys_info(), pickled(EMPTY_LIST))
    yield "legacy-sys-info-empty", good.replace(raw.sys_info(), pickled(EMPTY_DICT))
    yield "legacy-sys-info-endian-text", good.replace(text("little_endian") + raw.TRUE, text("little_endian") + text("middle"))
    yield "legacy-numel-too-small", made(storages={"1": (3, DATA[:12])})
    yield "legacy-numel-too-large", made(storages={"1": (5, DATA + DATA[:4])})
    yield "legacy-numel-2-pow-64-minus-1", made(storages={"1": (U64, DATA)})
    yield "legacy-numel-2-pow-62", made(tensor(place(numel=1 << 62)), storages={"1": (1 << 62, DATA)})
    yield "legacy-key-twice", made(keys=EMPTY_LIST + MARK + text("1") * 2 + APPENDS, storages={"1": (4, DATA), "": (4, DATA)})
    yield "legacy-key-not-listed", made(keys=EMPTY_LIST, storages={})
    yield "legacy-key-unused", made(storages={"1": (4, DATA), "2": (4, DATA)})
    yield "legacy-key-number", made(keys=EMPTY_LIST + MARK + number(1) + APPENDS)
    yield "legacy-keys-dict", made(keys=EMPTY_DICT)
    yield "legacy-keys-missing", good[:good.rindex(b"\x80\x02")] + pickled(NONE)
    yield "legacy-trailing", made(tail=b"trailing")
    yield "legacy-trailing-stream", good + good
    yield "legacy-pid-without-view", raw.legacy(state(tensor(storage("1"))), {"1": (4, DATA)})
    view = [row(text("2"), number(3), number(2))]
    yield "legacy-view-beyond-storage", made(tensor(storage("1", more=view), size=(2,)))
    yield "legacy-view-negative", made(tensor(storage("1", more=[row(text("2"), number(-1), number(2))]), size=(2,)))
    yield "legacy-view-wrong-shape", made(tensor(storage("1", more=[row(text("2"))]), size=(2,)))
    yield "legacy-view-number", made(tensor(storage("1", more=[number(1)]), size=(2,)))
    yield "legacy-view-two-meanings", raw.legacy(state(
        ("a", tensor(storage("1", more=[row(text("2"), number(0), number(2))]), size=(2,))),
        ("b", tensor(storage("1", more=[row(text("2"), number(1), number(2))]), size=(2,)))), {"1": (4, DATA)})


def tars():
    """Files of torch 0.1."""
    tree = pickled(mapping((text("w"), number(7) + BINPERSID)))

    def made(storages=None, tensors=None, views_=EMPTY_LIST, change=lambda entries: entries):
        entries = raw.tar(tree, storages or [(1, "FloatStorage", 4, DATA)], tensors or [(7, 1, "FloatTensor", (2, 2), (2, 1), 0)], views_)
        return raw.tar_file(change(entries))

    def fields(name, **how):
        return lambda entries: [(key, {"data": data, **how} if key == name else data) for key, data in entries]

    good = made()
    for name, end in (("in-header", 300), ("in-data", 600), ("in-storages", good.index(b"storages") + 530)):
        yield f"tar-cut-{name}", good[:end]
    yield "tar-size-overflow", made(change=fields(b"tensors", size=b"777777777777"))
    yield "tar-size-binary-2-pow-64", made(change=fields(b"tensors", size=b"\x80" + b"\xff" * 11))
    yield "tar-size-beyond-file", made(change=fields(b"storages", size=b"00000777777\0"))
    yield "tar-size-not-octal", made(change=fields(b"tensors", size=b"0000000089x\0"))
    yield "tar-size-negative", made(change=fields(b"tensors", size=b"-0000000010\0"))
    yield "tar-checksum-wrong", made(change=fields(b"tensors", checksum=b"000000\0 "))
    yield "tar-name-escape", made(change=lambda entries: [*entries, (b"../../pwned", b"pwned")])
    yield "tar-name-absolute", made(change=lambda entries: [*entries, (b"/tmp/pwned", b"pwned")])
    yield "tar-symlink", made(change=fields(b"storages", kind=b"2", data=b"", link=b"/etc/passwd"))
    yield "tar-hardlink", made(change=fields(b"storages", kind=b"1", data=b"", link=b"tensors"))
    for name in (b"storages", b"tensors", b"pickle", b"sys_info"):
        yield f"tar-{name.decode()}-missing".replace("_", "-"), made(change=lambda entries, gone=name: [e for e in entries if e[0] != gone])
    yield "tar-storages-twice", made(change=lambda entries: [*entries, entries[-1]])
    yield "tar-storage-numel-2-pow-63", made([(1, "FloatStorage", 1 << 63, DATA)])
    yield "tar-storage-numel-too-large", made([(1, "FloatStorage", 5, DATA)])
    yield "tar-storage-twice", made([(1, "FloatStorage", 4, DATA)] * 2)
    yield "tar-storage-unknown", made(tensors=[(7, 2, "FloatTensor", (2, 2), (2, 1), 0)])
    yield "tar-tensor-unknown", made(tensors=[(8, 1, "FloatTensor", (2, 2), (2, 1), 0)])
    yield "tar-tensor-beyond-storage", made(tensors=[(7, 1, "FloatTensor", (5,), (1,), 0)])
    yield "tar-tensor-offset-negative", made(tensors=[(7, 1, "FloatTensor", (1,), (1,), -1)])
    yield "tar-tensor-size-negative", made(tensors=[(7, 1, "FloatTensor", (-4,), (1,), 0)])
    yield "tar-view-beyond-storage", made(tensors=[(7, 5, "FloatTensor", (2,), (1,), 0)], views_=EMPTY_LIST + row(
        number(5), number(1), number(3), number(2)) + APPEND)
    yield "tar-view-of-itself", made(tensors=[(7, 5, "FloatTensor", (2,), (1,), 0)], views_=EMPTY_LIST + row(
        number(5), number(5), number(0), number(2)) + APPEND)
    for name, count in (("count-2-pow-62", 1 << 62), ("count-negative", -1), ("count-too-small", 0), ("count-too-large", 2)):
        yield f"tar-storages-{name}", made(change=lambda entries, n=count: [
            (key, pickled(number(n)) + data[len(pickled(number(1))):] if key == b"storages" else data) for key, data in entries])
    ranks = struct.pack("<ii", 1 << 30, 0)
    yield "tar-tensor-rank-2-pow-30", made(change=lambda entries: [
        (key, data.replace(struct.pack("<ii", 2, 0), ranks) if key == b"tensors" else data) for key, data in entries])
    yield "tar-tensor-rank-negative", made(change=lambda entries: [
        (key, data.replace(struct.pack("<ii", 2, 0), struct.pack("<ii", -1, 0)) if key == b"tensors" else data) for key, data in entries])


def indexes():
    """(folder, text of the index, shards): sets of .bin whose index is wrong."""
    first, second = zipped(state(("a", tensor()))), zipped(state(("b", tensor())))
    both = {"one.bin": first, "two.bin": second}
    good = '{"metadata":{"total_size":32},"weight_map":{"a":"one.bin","b":"two.bin"}}'
    yield "torch-file-missing", good.replace("two.bin", "three.bin"), both
    yield "torch-file-damaged", good, {**both, "two.bin": second[:-40]}
    yield "torch-file-is-not-torch", good, {**both, "two.bin": b"garbage, not a shard at all"}
    yield "torch-file-in-parent-folder", good.replace("two.bin", "../torch-escape.bin"), both
    yield "torch-tensor-in-two-shards", good, {**both, "two.bin": zipped(state(("a", tensor()), ("b", tensor())))}
    yield "torch-tensor-in-no-shard", good.replace('"b":', '"c":"one.bin","b":'), both
    yield "torch-shard-is-nested", good, {**both, "two.bin": zipped(pickled(mapping((text("state_dict"), mapping((text("b"), tensor()))))))}
    yield "torch-shard-runs-code", good, {**both, "two.bin": inside(call("posix", "system", text(COMMAND)))}


def make(out):
    """Writes every file."""
    for files in (memo(), shapes(), floods(), lengths(), stack(), code(), views(), persistent(), archives(), streams(), tars()):
        for name, data in files:
            out.write(f"bad/pytorch/{name}.pt", data, "hand", name.replace("-", " "))
    run = named("transformers.training_args", "TrainingArguments") + EMPTY_TUPLE + NEWOBJ + mapping(
        (text("output_dir"), call("posix", "system", text(COMMAND)))) + BUILD
    out.write("bad/pytorch/runs-training_args.bin", archive(pickled(run), {}), "hand", "runs training args")
    out.write("bad/index/torch-escape.bin", zipped(state(("b", tensor()))), "hand", "bait outside the folders: its values may appear nowhere")
    for name, body, shards in indexes():
        out.write(f"bad/index/{name}/pytorch_model.bin.index.json", body.encode(), "hand", f"index: {name.replace('-', ' ')}")
        for shard, data in shards.items():
            out.write(f"bad/index/{name}/{shard}", data, "hand", "goes with the index beside it")
