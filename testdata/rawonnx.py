"""Byte-level builders of ONNX files: protobuf fields exactly as asked, right or wrong."""

import struct


def varint(value):
    """A varint; negative numbers in 64 bits, as protobuf has them."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def tag(number, wire):
    """The tag of a field."""
    return varint(number << 3 | wire)


def num(number, value):
    """A whole number."""
    return tag(number, 0) + varint(value)


def f32(number, value):
    """A float in four bytes."""
    return tag(number, 5) + struct.pack("<f", value)


def f64(number, value):
    """A float in eight bytes."""
    return tag(number, 1) + struct.pack("<d", value)


def sub(number, *parts):
    """Bytes, text, or a message made of parts."""
    data = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return tag(number, 2) + varint(len(data)) + data


def entry(number, key, value):
    """A key and its value."""
    return sub(number, sub(1, key), sub(2, value))


def tensor(*fields, name="w", dims=(2,), kind=1):
    """The body of a TensorProto."""
    return b"".join(num(1, dim) for dim in dims) + num(2, kind) + b"".join(fields) + sub(8, name)


def external(location, **more):
    """The fields of a tensor whose elements lie in another file."""
    entries = [] if location is None else [entry(13, "location", location)]
    return b"".join(entries + [entry(13, key, str(value)) for key, value in more.items()]) + num(14, 1)


def graph(*fields, name="g"):
    """The body of a GraphProto."""
    return b"".join(fields) + sub(2, name)


def model(*graph_fields, ir=8, opset=17, before=b"", after=b""):
    """A ModelProto around a graph of these fields; the graph comes last but for `after`."""
    head = num(1, ir) + sub(8, sub(1, ""), num(2, opset)) if opset else num(1, ir)
    return head + before + sub(7, graph(*graph_fields)) + after


def initializers(*tensors, **how):
    """A ModelProto with these tensors, given as bodies."""
    return model(*(sub(5, body) for body in tensors), **how)
