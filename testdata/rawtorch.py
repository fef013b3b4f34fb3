"""Byte-level builders of torch's files: pickles opcode by opcode, archives, legacy streams and tars, right or wrong."""

import struct

from rawfiles import Member, zip_file

STOP = b"."
MARK = b"("
NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT = b")", b"]", b"}"
REDUCE, BUILD, NEWOBJ, BINPERSID = b"R", b"b", b"\x81", b"Q"
POP, DUP, POP_MARK, APPEND, APPENDS, SETITEM, SETITEMS = b"0", b"2", b"1", b"a", b"e", b"s", b"u"
TUPLE, TUPLE1, TUPLE2, TUPLE3, LIST, DICT = b"t", b"\x85", b"\x86", b"\x87", b"l", b"d"

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
ORDERED_DICT = b"ccollections\nOrderedDict\n"
HOOKS = ORDERED_DICT + EMPTY_TUPLE + REDUCE
SIZES = {"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
         "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1}


def named(module, name):
    """GLOBAL."""
    return f"c{module}\n{name}\n".encode()


def text(value):
    """BINUNICODE."""
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def string(value):
    """SHORT_BINSTRING, which Python 2 wrote for its strings."""
    return b"U" + bytes([len(value)]) + value.encode()


def number(value):
    """An int as small as protocol 2 has it."""
    if 0 <= value < 1 << 8:
        return b"K" + bytes([value])
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data)) + data


def put(at):
    """BINPUT or LONG_BINPUT."""
    return b"q" + bytes([at]) if at < 256 else b"r" + struct.pack("<I", at)


def get(at):
    """BINGET or LONG_BINGET."""
    return b"h" + bytes([at]) if at < 256 else b"j" + struct.pack("<I", at)


def row(*parts):
    """A tuple of parts that are opcodes already."""
    return MARK + b"".join(parts) + TUPLE


def mapping(*pairs, start=EMPTY_DICT):
    """A dict of (key, value), both opcodes."""
    return start + MARK + b"".join(key + value for key, value in pairs) + SETITEMS


def call(module, name, *args):
    """REDUCE of a global with these arguments."""
    return named(module, name) + row(*args) + REDUCE


def ints(values):
    """A tuple of ints; what is opcodes already stays."""
    return row(*(number(value) for value in values))


def storage(key="0", kind="FloatStorage", numel=4, location="cpu", *, module="torch", more=(), words=text):
    """A persistent id as torch writes it. `more` is the view metadata of a legacy stream."""
    return row(words("storage"), named(module, kind), words(key), words(location), number(numel), *more) + BINPERSID


def tensor(place=None, offset=0, size=(4,), stride=(1,), *, hooks=HOOKS, grad=FALSE):
    """`_rebuild_tensor_v2` of a storage; numbers and tuples may be given as opcodes."""
    as_is = lambda value, make: value if isinstance(value, bytes) else make(value)  # noqa: E731
    return call("torch._utils", "_rebuild_tensor_v2", storage() if place is None else place, as_is(offset, number),
                as_is(size, ints), as_is(stride, ints), grad, hooks)


def pickled(body, protocol=2):
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + body + STOP


def state(*tensors, protocol=2):
    """A pickle of a dict of tensors: (name, opcodes), or opcodes alone for one under the name `w`."""
    pairs = [(text("w"), item) if isinstance(item, bytes) else (text(item[0]), item[1]) for item in tensors]
    return pickled(mapping(*pairs), protocol)


def members(pickle, records, root="archive", *, version=b"3\n", byteorder=b"little"):
    """The entries of an archive; `version` and `byteorder` may be None."""
    out = [Member(f"{root}/data.pkl".encode(), pickle)]
    if byteorder is not None:
        out.append(Member(f"{root}/byteorder".encode(), byteorder))
    out += [Member(f"{root}/data/{key}".encode(), data) for key, data in records.items()]
    if version is not None:
        out.append(Member(f"{root}/version".encode(), version))
    return out


def archive(pickle, records, root="archive", **how):
    """An archive with what torch.load needs and no more."""
    return zip_file(members(pickle, records, root, **how))


def sys_info(little=True):
    """The third pickle of a legacy stream."""
    sizes = mapping((text("short"), number(2)), (text("int"), number(4)), (text("long"), number(4)))
    return pickled(mapping((text("protocol_version"), number(VERSION)), (text("little_endian"), TRUE if little else FALSE),
                           (text("type_sizes"), sizes)))


def legacy(pickle, storages, *, magic=MAGIC, version=VERSION, little=True, keys=None, words=text, tail=b""):
    """A legacy stream. `storages` is {key: (numel, bytes)}; `keys` overrides the list of them, as opcodes."""
    if keys is None:
        keys = EMPTY_LIST + MARK + b"".join(words(key) for key in storages) + APPENDS
    data = b"".join(struct.pack("<Q", numel) + raw for numel, raw in storages.values())
    return b"".join([pickled(number(magic)), pickled(number(version)), sys_info(little), pickle, pickled(keys), data, tail])


def tar_file(entries):
    """A tar of (name, bytes), headers as Python 2 wrote them. A dict instead of bytes overrides: data, size, kind."""
    out = bytearray()
    for name, what in entries:
        fields = what if isinstance(what, dict) else {"data": what}
        data = fields.get("data", b"")
        size = fields.get("size", f"{len(data):011o}\0".encode())
        head = bytearray(512)
        head[:len(name)] = name
        head[100:108], head[108:116], head[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
        head[124:136], head[136:148], head[148:156] = size, b"00000000000\0", b" " * 8
        head[156:157] = fields.get("kind", b"0")
        head[157:157 + len(fields.get("link", b""))] = fields.get("link", b"")
        head[257:265] = b"ustar\x0000"
        head[148:156] = fields.get("checksum", f"{sum(head):06o}\0 ".encode())
        out += head + data + bytes(-len(data) % 512)
    out += bytes(-len(out) % 10240 or 10240)
    return bytes(out)


def tar_tensor(key, place, kind, size, stride, offset):
    """One tensor of a tar's `tensors`."""
    head = pickled(row(number(key), number(place), named("torch", kind)))
    return head + struct.pack(f"<ii{len(size)}q{len(stride)}qq", len(size), 0, *size, *stride, offset)


def tar(pickle, storages, tensors, views=EMPTY_LIST, *, location="cpu"):
    """A file of torch 0.1. `storages` is [(key, type, numel, bytes)]; `tensors` are rows of tar_tensor's arguments."""
    first = pickled(number(len(storages)))
    for key, kind, numel, data in storages:
        first += pickled(row(number(key), string(location), named("torch", kind))) + struct.pack("<Q", numel) + data
    second = pickled(number(len(tensors))) + b"".join(tar_tensor(*tensor) for tensor in tensors)
    return [(b"sys_info", sys_info()), (b"pickle", pickle), (b"tensors", second), (b"storages", first + pickled(views))]
