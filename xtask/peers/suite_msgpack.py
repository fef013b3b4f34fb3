"""flax.serialization: files it writes are read, files we write it restores, and what goes through comes back to the byte."""

import collections
import json

import flax
import jax
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
from flax import serialization

import bits
import models
import torch_files
from common import (EXIT_AMBIGUOUS, EXIT_CANNOT_REPRESENT, EXIT_MALFORMED, EXIT_UNSUPPORTED, OURS_TO_THEIRS, ROUND_TRIP,
                    TESTDATA, THEIRS_TO_OURS, check)

PROGRAM = "flax"
# Types of ml_dtypes that no other suite has.
MORE = {"f8_e3m4": ml_dtypes.float8_e3m4, "f8_e4m3ieee": ml_dtypes.float8_e4m3, "f8_e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz}
OURS = {**bits.FROM_NUMPY, **{np.dtype(dtype): name for name, dtype in MORE.items()}}
KNOWN = [name for name, row in bits.TYPES.items() if row[1]]
# Fixtures that flax writes otherwise than they are, or not at all.
NOT_AS_THEY_ARE = {"flax-long-forms.msgpack", "flax-single-floats.msgpack", "flax-chunked.msgpack", "flax-chunked-odd.msgpack",
                   "flax-array.msgpack", "flax-array-chunked.msgpack", "flax-values.msgpack"}
Moments = collections.namedtuple("Moments", "count mu nu")


def run(judge):
    """All cases."""
    check(flax.__version__, "no version")
    for path in sorted((TESTDATA / "models").glob("*.msgpack")):
        fixture(judge, path)
    every_dtype(judge)
    from_other_formats(judge)
    nested(judge)
    values(judge)
    optimizer(judge)
    several(judge)
    from_torch(judge)
    parts(judge)
    refused(judge)
    by_jax(judge)
    by_msgpack(judge)
    large(judge)
    if judge.full:
        beyond_1_gib(judge)


def tensor(array):
    """An array of any type that flax writes."""
    array = np.asarray(array)
    return bits.Tensor(OURS[array.dtype], array.shape, array.tobytes())


def leaves(value, path=()):
    """(path, leaf) of everything in a restored document, arrays and numbers of numpy as they are."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, str(key) if not isinstance(key, bytes) else key.decode()))
        if not value:
            yield path, value
    elif isinstance(value, list):
        for idx, member in enumerate(value):
            yield from leaves(member, (*path, str(idx)))
    else:
        yield path, value


def tensors(value, alone=None):
    """The arrays of a restored document under our names."""
    found = {path: leaf for path, leaf in leaves(value) if isinstance(leaf, (np.ndarray, np.generic))}
    return {".".join(path) if path else alone: tensor(leaf) for path, leaf in found.items()}


def plain(value):
    """A restored document with arrays as tensors, to be compared; NaN is itself."""
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [plain(member) for member in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return tensor(value)
    return repr(value) if isinstance(value, float) else value


def same_document(case, expected, path):
    """flax restores what is expected: arrays to the bit, all else by value, keys in their order."""
    found = serialization.msgpack_restore(path.read_bytes())
    case.same(tensors(expected), tensors(found))
    check(plain(found) == plain(expected), f"restored as {str(plain(found))[:300]}")
    check(json.dumps(order(found)) == json.dumps(order(expected)), "keys are in another order")
    case.opened()
    return found


def order(value):
    """Keys of nested dictionaries in their order."""
    return [[str(key), order(member)] for key, member in value.items()] if isinstance(value, dict) else None


def fixture(judge, path):
    """A fixture is listed as flax restores it, and written again it is restored so, to the byte where it is flax's."""
    with judge.case(f"fixture {path.name}", PROGRAM, ROUND_TRIP) as case:
        data = path.read_bytes()
        expected = serialization.msgpack_restore(data)
        case.listed(path, tensors(expected, path.stem))
        is_alone = isinstance(expected, np.ndarray)
        target = case.convert(path, path.name, *([] if is_alone else ["--select", ".", "--keep-optimizer"]))
        same_document(case, {path.stem: expected} if is_alone else expected, target)
        check(path.name in NOT_AS_THEY_ARE or target.read_bytes() == data, "other bytes")


def every_dtype(judge):
    """Every type in both directions; those in which an element has less than a byte are refused."""
    made = {**models.every_dtype(KNOWN), **{f"{name}.weight": bits.Tensor(name, (2, 3), bytes(range(6))) for name in MORE}}
    types = {**{name: np.dtype(bits.TYPES[name][1]) for name in KNOWN}, **MORE}
    arrays = {name: np.frombuffer(one.data, types[one.dtype]).reshape(one.shape) for name, one in made.items()}
    with judge.case("every type of flax", PROGRAM, THEIRS_TO_OURS) as case:
        source = save(case.path("in.msgpack"), arrays)
        case.listed(source, made)
        check(judge.writes("msgpack") == set(KNOWN) | set(MORE), f"we write {sorted(judge.writes('msgpack'))}")
        target = case.convert(source, "out.msgpack")
        check(target.read_bytes() == source.read_bytes(), "other bytes")
        same_document(case, arrays, target)
    for name in ("int4", "uint4", "int2", "float4_e2m1fn", "float6_e2m3fn"):
        with judge.case(f"{name} is refused", PROGRAM, THEIRS_TO_OURS) as case:
            source = save(case.path("in.msgpack"), {"w": np.zeros((2, 4), getattr(ml_dtypes, name))})
            check(serialization.msgpack_restore(source.read_bytes())["w"].dtype.name == name, "flax reads another type")
            case.refused(source, "out.msgpack", EXIT_UNSUPPORTED)


def save(path, value):
    """What flax.serialization.to_bytes gives, in a file."""
    path.write_bytes(serialization.to_bytes(value))
    return path


def from_other_formats(judge):
    """Names of safetensors and npz are one dictionary, or nested ones, to the byte as flax writes them."""
    bags = {"every dtype": models.every_dtype([name for name in KNOWN if bits.TYPES[name][0]]), "shapes": models.shapes("bf16"),
            "names": models.names(), "checkpoint": models.checkpoint(), "no tensors": {}}
    for name, bag in bags.items():
        with judge.case(f"safetensors to msgpack, {name}", PROGRAM, OURS_TO_THEIRS) as case:
            source = torch_files.save(case.path("in.safetensors"), bag)
            expected = {key: bits.to_numpy(one) for key, one in bits.raw_safetensors(source)[0].items()}
            target = case.convert(source, "out.msgpack")
            same_document(case, expected, target)
            check(target.read_bytes() == serialization.to_bytes(expected), "other bytes than flax's")
            back = case.convert(target, "back.safetensors")
            case.same(bag, bits.raw_safetensors(back)[0])
    with judge.case("npz to msgpack", PROGRAM, OURS_TO_THEIRS) as case:
        arrays = {code.replace("?", "bool"): models.numpy_array(code, byte_order, memory)
                  for code, byte_order, memory in zip(models.NUMPY_CODES, "<>" * 7, "CCFF" * 4)}
        np.savez(case.path("in.npz"), **arrays)
        restored = serialization.msgpack_restore(case.convert(case.path("in.npz"), "out.msgpack").read_bytes())
        case.same({name: bits.of_numpy(array) for name, array in arrays.items()}, tensors(restored))
        case.opened()


def nested(judge):
    """`--dictionaries nested` gives what flax's own parameters look like, and what was nested is nested again."""
    with judge.case("--dictionaries nested", PROGRAM, OURS_TO_THEIRS) as case:
        source = torch_files.save(case.path("in.safetensors"), models.checkpoint())
        target = case.convert(source, "out.msgpack", "--dictionaries", "nested")
        flat = {name: bits.to_numpy(one) for name, one in bits.raw_safetensors(source)[0].items()}
        same = flax.traverse_util.unflatten_dict(flat, sep=".")
        found = same_document(case, same, target)
        case.same(models.checkpoint(), tensors(found))
        check(target.read_bytes() == serialization.to_bytes(same), "other bytes than flax's")
        listed = case.convert(target, "back.safetensors")
        case.same(models.checkpoint(), bits.raw_safetensors(listed)[0])
    with judge.case("parameters through safetensors and back", PROGRAM, ROUND_TRIP) as case:
        source = TESTDATA / "models/flax-bare.msgpack"
        middle = case.convert(source, "middle.safetensors")
        target = case.convert(middle, "out.msgpack", "--dictionaries", "nested")
        same_document(case, serialization.msgpack_restore(source.read_bytes()), target)
        check(target.read_bytes() == source.read_bytes(), "other bytes")
    with judge.case("a name behind another", PROGRAM, OURS_TO_THEIRS) as case:
        source = torch_files.save(case.path("in.safetensors"), {"a": models.random("f32", (2,)), "a.b": models.random("f32", (2,))})
        case.refused(source, "out.msgpack", EXIT_CANNOT_REPRESENT, "--dictionaries", "nested")


def document():
    """Everything that a document can hold beside arrays, keys that are no texts too."""
    return {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "none": None, "yes": True, "no": False,
            "ints": [sign * ((1 << power) + more) for power in range(64) for more in (-1, 0, 1) for sign in (1, -1)
                     if -(1 << 63) <= sign * ((1 << power) + more)],
            "most": (1 << 64) - 1, "floats": [0.1, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324], "c": 1.5 - 2j,
            "bytes": [b"", b"\xff" * 300], "texts": ["", "größe 🦙", "n" * 31, "n" * 32, "n" * 255, "n" * 256, "n" * 70_000],
            "lists": [[], [[]], list(range(15)), list(range(16)), list(range(70_000))], "empty": {},
            "wide": {str(number): number for number in range(70_000)}, 7: {-1: 1, True: 2, None: 3, 2.5: 4, b"b": 5}}


def values(judge):
    """Values beside arrays go through to the byte; into another format they are left out, and named."""
    with judge.case("every value", PROGRAM, ROUND_TRIP) as case:
        pack = serialization._msgpack_ext_pack  # pylint: disable=protected-access
        source = case.path("in.msgpack")
        source.write_bytes(msgpack.packb(document(), default=pack, strict_types=True))
        target = case.convert(source, "out.msgpack")
        check(target.read_bytes() == source.read_bytes(), "other bytes")
        same_document(case, document(), target)
    with judge.case("numbers of numpy", PROGRAM, ROUND_TRIP) as case:
        scalars = {dtype: np.dtype(bits.TYPES[dtype][1]).type(1) for dtype in KNOWN}
        source = save(case.path("in.msgpack"), {**scalars, "w": np.ones(2, np.float32)})
        expected = {name: tensor(value) for name, value in {**scalars, "w": np.ones(2, np.float32)}.items()}
        case.listed(source, expected)
        found = serialization.msgpack_restore(case.convert(source, "out.msgpack").read_bytes())
        case.same(expected, tensors(found))
        case.opened()
    with judge.case("values into safetensors", PROGRAM, THEIRS_TO_OURS) as case:
        source = save(case.path("in.msgpack"), {"w": np.ones(2, np.float32), "epoch": 3, "note": "text"})
        result = judge.run("convert", source, case.path("out.safetensors"), "--json")
        losses = {loss["subject"]: loss["kind"] for loss in json.loads(result.stdout)["losses"]}
        check(losses == {"epoch": "tree", "note": "tree"}, f"named: {losses}")
        case.same({"w": tensor(np.ones(2, np.float32))}, bits.raw_safetensors(case.path("out.safetensors"))[0])
        case.opened()


def network():
    """Parameters as flax nests them."""
    def layer(name, *shape):
        return {"kernel": bits.to_numpy(models.random("f32", shape, name)),
                "bias": bits.to_numpy(models.random("bf16", shape[-1:], name))}
    return {"Dense_0": layer("0", 4, 3), "Block_0": {"Dense_0": layer("1", 3, 3), "Dense_1": layer("2", 3, 3)}}


def optimizer(judge):
    """Of a state of training the model is taken, the optimizer left and named; --keep-optimizer takes all, for flax to load."""
    state = {"step": jnp.asarray(3, jnp.int32), "params": network(), "opt_state": (Moments(jnp.asarray(3), network(), network()), {})}
    with judge.case("parameters of a state of training", PROGRAM, THEIRS_TO_OURS) as case:
        source = save(case.path("in.msgpack"), state)
        target = case.convert(source, "out.safetensors")
        case.same(tensors(network()), bits.raw_safetensors(target)[0])
        case.opened()
    with judge.case("--keep-optimizer", PROGRAM, ROUND_TRIP) as case:
        source = save(case.path("in.msgpack"), state)
        target = case.convert(source, "out.msgpack", "--keep-optimizer")
        check(target.read_bytes() == source.read_bytes(), "other bytes")
        loaded = serialization.from_bytes(state, target.read_bytes())
        check(isinstance(loaded["opt_state"][0], Moments), "no named tuple any more")
        both = [jax.tree_util.tree_map(np.asarray, serialization.to_state_dict(one)) for one in (state, loaded)]
        case.same(*map(tensors, both))
        case.opened()
    with judge.case("statistics of batches beside parameters", PROGRAM, THEIRS_TO_OURS) as case:
        both = {"params": network(), "batch_stats": {"BatchNorm_0": {"mean": np.zeros(3, np.float32)}}}
        source = save(case.path("in.msgpack"), {**both, "opt_state": state["opt_state"]})
        case.same(tensors(both), bits.raw_safetensors(case.convert(source, "out.safetensors"))[0])
        same_document(case, both, case.convert(source, "out.msgpack"))


def several(judge):
    """Two sets of parameters are told with their names, and --select takes one."""
    with judge.case("--select of two sets", PROGRAM, THEIRS_TO_OURS) as case:
        ema = jax.tree_util.tree_map(lambda array: array * 0, network())
        source = save(case.path("in.msgpack"), {"params": network(), "params_ema": ema})
        case.refused(source, "refused.safetensors", EXIT_AMBIGUOUS)
        said = judge.run("convert", source, case.path("refused.safetensors")).stderr.decode()
        check("found params (6 tensors" in said and "params_ema (6 tensors" in said, said)
        target = case.convert(source, "out.safetensors", "--select", "params_ema")
        case.same(tensors(ema), bits.raw_safetensors(target)[0])


def from_torch(judge):
    """A checkpoint of torch is nested as it was; what flax does not write is left out and named."""
    import torch

    with judge.case("a checkpoint of torch", PROGRAM, OURS_TO_THEIRS) as case:
        state = {"model": {"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2).bfloat16()}, "epoch": 3, "range": (1, 2),
                 "complex": 1j, "set": {1, 2}, "size": torch.Size([2, 3])}
        torch.save(state, case.path("in.pt"))
        target = case.convert(case.path("in.pt"), "out.msgpack", "--select", ".")
        expected = {"model": {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.ones(2, ml_dtypes.bfloat16)}, "epoch": 3,
                    "range": [1, 2], "complex": 1j}
        same_document(case, expected, target)
        said = json.loads(judge.run("convert", case.path("in.pt"), target, "--select", ".", "--force", "--json").stdout)
        check({"set", "size"} <= {loss["subject"] for loss in said["losses"]}, f"named: {said['losses']}")


def parts(judge):
    """Arrays in parts of any size are joined as flax joins them."""
    for limit in (1, 3, 8, 100, 1000):
        with judge.case(f"parts of {limit} bytes", PROGRAM, THEIRS_TO_OURS) as case:
            arrays = {name: bits.to_numpy(models.random(name, (5, 7), "parts")) for name in KNOWN}
            usual, serialization.MAX_CHUNK_SIZE = serialization.MAX_CHUNK_SIZE, limit
            try:
                source = save(case.path("in.msgpack"), {"params": arrays})
            finally:
                serialization.MAX_CHUNK_SIZE = usual
            case.listed(source, {f"params.{name}": tensor(array) for name, array in arrays.items()})
            same_document(case, {"params": arrays}, case.convert(source, "out.msgpack", "--select", "."))


def refused(judge):
    """What flax does not restore we do not read either."""
    good = serialization.to_bytes({"w": np.ones(3, np.float32)})
    for name, data in {"cut": good[:-1], "more behind": good + b"\0", "not UTF-8": b"\x81\xa1\xff\x01",
                       "a list for a key": b"\x81\x91\x01\x01", "elements short": good.replace(b"\x91\x03", b"\x91\x04")}.items():
        with judge.case(f"refused: {name}", PROGRAM, THEIRS_TO_OURS) as case:
            source = case.path("in.msgpack")
            source.write_bytes(data)
            try:
                serialization.msgpack_restore(data)
            except Exception:  # pylint: disable=broad-exception-caught
                code = EXIT_UNSUPPORTED if "key" in name else EXIT_MALFORMED
                case.refused(source, "out.msgpack", code)
            else:
                check(False, "flax restores it")


def by_jax(judge):
    """Arrays of jax, bf16 and f8 among them, are restored into a target of jax arrays, and computed with."""
    with judge.case("arrays of jax", "jax", ROUND_TRIP) as case:
        target = {"kernel": jnp.arange(12, dtype=jnp.bfloat16).reshape(3, 4), "scale": jnp.float32(2), "count": jnp.int32(7),
                  "f8": jnp.arange(4).astype(jnp.float8_e4m3fn)}
        source = save(case.path("in.msgpack"), target)
        ours = case.convert(source, "out.msgpack")
        check(ours.read_bytes() == source.read_bytes(), "other bytes")
        loaded = jax.tree_util.tree_map(jnp.asarray, serialization.from_bytes(target, ours.read_bytes()))
        case.same(tensors(jax.tree_util.tree_map(np.asarray, target)), tensors(jax.tree_util.tree_map(np.asarray, loaded)))
        check(float((loaded["kernel"] @ loaded["kernel"].T).sum()) == float((target["kernel"] @ target["kernel"].T).sum()), "sum")
        case.opened()


def by_msgpack(judge):
    """Extensions that flax does not know, and times, come back as msgpack packs them."""
    with judge.case("extensions and times", "msgpack", ROUND_TRIP) as case:
        pack = serialization._msgpack_ext_pack  # pylint: disable=protected-access
        value = {"w": np.ones(2, np.float32), "time": msgpack.Timestamp(1, 2), "long": msgpack.Timestamp(1 << 40, 3),
                 **{f"own {size}": msgpack.ExtType(42, b"x" * size) for size in (0, 1, 2, 3, 4, 8, 16, 17, 256, 70_000)}}
        source = case.path("in.msgpack")
        source.write_bytes(msgpack.packb(value, default=pack))
        ours = case.convert(source, "out.msgpack")
        check(ours.read_bytes() == source.read_bytes(), "other bytes")
        found = msgpack.unpackb(ours.read_bytes())
        check({key: found[key] for key in found if key != "w"} == {key: value[key] for key in value if key != "w"}, "other values")
        case.opened()
        case.values += len(found)


def large(judge):
    """A file of which nearly all is a hole is opened at once, and planned with the parts that flax makes."""
    with judge.case("more than 1 GiB, planned", PROGRAM, THEIRS_TO_OURS) as case:
        n_elements = (3 << 30) // 4 + 1
        source = case.path("in.npy")
        np.lib.format.open_memmap(source, "w+", np.float32, (n_elements,)).flush()
        result = judge.run("convert", source, case.path("out.msgpack"), "--dry-run", "--json")
        check(result.returncode == 0, result.stderr.decode())
        # Three parts of 2^30 bytes and one of an element, each with what stands before it.
        whole = len(b"\xa10\xc9....\x01\x93\x91\xce....\xa7float32\xc6....") + (1 << 30)
        last = len(msgpack.packb({"3": msgpack.ExtType(1, msgpack.packb(((1,), "float32", b"...."), use_bin_type=True))})) - 1
        head = len(msgpack.packb({"in": {"__msgpack_chunked_array__": True, "shape": {"0": n_elements}, "chunks": {}}}))
        sizes = [file["bytes"] for file in json.loads(result.stdout)["files"]]
        check(sizes == [head + 3 * whole + last], f"{sizes} bytes, not {head + 3 * whole + last}")
        case.opened()
        case.values += 1


def beyond_1_gib(judge):
    """An array that flax splits is written in parts to the byte as flax writes it, and read again."""
    with judge.case("more than 1 GiB", PROGRAM, ROUND_TRIP) as case:
        array = np.arange((5 << 28) // 4, dtype=np.float32).reshape(5, -1)
        np.save(case.path("w.npy"), array)
        target = case.convert(case.path("w.npy"), "out.msgpack")
        check(target.read_bytes() == serialization.to_bytes({"w": array}), "other bytes than flax's")
        back = case.convert(target, "w2.npy")
        check(np.array_equal(np.load(back, mmap_mode="r"), array), "other values")
        case.opened(2)
        case.values += array.size
