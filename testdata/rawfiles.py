"""Byte-level builders: safetensors, npy and zip files exactly as asked, right or wrong.

The libraries refuse to write most of what a reader must survive, and some of what it must accept. Nothing here checks
anything.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field


def safetensors(header, data=b"", *, length=None, pad=True):
    """A safetensors file. `header` is an object for JSON, or the header's bytes; `length` overrides the length field."""
    if not isinstance(header, bytes):
        header = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if pad:
            header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def foreign(good):
    """(name, bytes) of what lies under a model's name when something else was saved there, or `good` only in part."""
    yield "file-zeros", b"\0" * 64
    yield "file-git-lfs-pointer", (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64
                                   + b"\nsize 548105171\n")
    yield "file-html", b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body></body></html>\n"
    yield "file-gzip", bytes.fromhex("1f8b08000000000000ff") + good
    yield "file-cut-in-half", good[: len(good) // 2]


def entry(dtype, shape, begin, end):
    """One tensor's value in a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def npy(descr, shape, data=b"", *, fortran=False, version=(1, 0), header=None, header_length=None, align=64):
    """An npy file. `header` is the text of the dict; `header_length` overrides the length field."""
    if header is None:
        header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    text = header if isinstance(header, bytes) else header.encode("utf-8" if version >= (3, 0) else "latin-1")
    width = 2 if version == (1, 0) else 4
    text += b" " * (-(8 + width + len(text) + 1) % align) + b"\n"
    length = len(text) if header_length is None else header_length
    return b"\x93NUMPY" + bytes(version) + length.to_bytes(width, "little") + text + data


@dataclass
class Member:
    """One zip entry. `local` and `central` override header fields on one side only."""

    name: bytes
    data: bytes
    deflate: bool = False
    flags: int = 0
    extra: bytes = b""
    descriptor: bool = False
    body: bytes = None  # the bytes between the headers, if not what data gives
    local: dict = field(default_factory=dict)
    central: dict = field(default_factory=dict)


LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
EOCD = struct.Struct("<4sHHHHIIH")
EPOCH = (0, 0x21)  # 1980-01-01 00:00, as zip writes it


def deflate(data, level=9):
    """A raw deflate stream."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def zip_file(members, *, before=b"", between=b"", comment=b"", eocd=None, cut_eocd=False):
    """A zip archive of `members`, `before` in front of it and counted in no offset, `between` before the directory.

    `eocd` overrides fields of the end record: entries_here, entries, size, offset, disk, directory_disk.
    """
    out = bytearray()
    directory = bytearray()
    for member in members:
        body = deflate(member.data) if member.deflate else member.data
        if member.body is not None:
            body = member.body
        fields = {
            "name": member.name,
            "flags": member.flags | (8 if member.descriptor else 0),
            "method": 8 if member.deflate else 0,
            "crc": zlib.crc32(member.data),
            "packed": len(body),
            "size": len(member.data),
            "extra": member.extra,
            "offset": len(out),
        }
        local = dict(fields)
        if member.descriptor:
            local.update(crc=0, packed=0, size=0)
        local.update(member.local)
        central = {**fields, **member.central}
        out += LOCAL.pack(b"PK\x03\x04", 20, local["flags"], local["method"], *EPOCH, local["crc"], local["packed"],
                          local["size"], len(local["name"]), len(local["extra"]))
        out += local["name"] + local["extra"] + body
        if member.descriptor:
            out += struct.pack("<4sIII", b"PK\x07\x08", fields["crc"], fields["packed"], fields["size"])
        directory += CENTRAL.pack(b"PK\x01\x02", 20, 20, central["flags"], central["method"], *EPOCH, central["crc"],
                                  central["packed"], central["size"], len(central["name"]), len(central["extra"]), 0,
                                  0, 0, 0, central["offset"])
        directory += central["name"] + central["extra"]
    out += between
    end = {"disk": 0, "directory_disk": 0, "entries_here": len(members), "entries": len(members),
           "size": len(directory), "offset": len(out), **(eocd or {})}
    out += directory
    if not cut_eocd:
        out += EOCD.pack(b"PK\x05\x06", end["disk"], end["directory_disk"], end["entries_here"], end["entries"],
                         end["size"], end["offset"], len(comment)) + comment
    return before + bytes(out)
