"""torch: files both ways, shared tensors, and every cast judged against torch's own or worked out exactly."""

import numpy as np
import torch
from safetensors.torch import load_model, save_model

import bits
import casts
import models
import theirs
import torch_files
from common import (ALLOW_OVERFLOW, EXIT_CANNOT_REPRESENT, OURS_TO_THEIRS, ROUND_TRIP, THEIRS_TO_OURS, check)

PROGRAM = "torch"
# safetensors.torch 0.8.0 loads these; E8M0 it only saves.
LOADED = [name for name, row in bits.TYPES.items() if row[0] and row[2] and name != "f8_e8m0"]
TO_FLOAT8 = ["f8_e4m3", "f8_e5m2", "f8_e4m3fnuz", "f8_e5m2fnuz"]
ROUNDING = [("f32", target) for target in ("f16", "bf16", *TO_FLOAT8)] + [
    (source, target) for source in ("f16", "bf16") for target in ("f16", "bf16", "f8_e4m3", "f8_e5m2") if source != target]
WIDENING = [("f16", "f32"), ("bf16", "f32"), ("f8_e4m3", "f32"), ("f8_e5m2", "f32"), ("f8_e4m3fnuz", "f32"),
            ("f8_e5m2fnuz", "f32"), ("f32", "f64"), ("f16", "f64"), ("bf16", "f64")]


def run(judge):
    """All cases."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    files(judge)
    shared(judge)
    oracle(judge)
    rounding(judge)
    widening(judge)
    from_f64(judge)
    refusals(judge)
    untouched(judge)
    judge.not_judged("F8_E8M0, F6 and F4 into torch: safetensors.torch 0.8.0 does not load them; safetensors itself does")


def files(judge):
    """Files by safetensors.torch in, files for safetensors.torch out, by way of npz too."""
    bags = {"every dtype": models.every_dtype(LOADED), "shapes": models.shapes("bf16"), "checkpoint": models.checkpoint()}
    for name, tensors in bags.items():
        with judge.case(name, PROGRAM, THEIRS_TO_OURS) as case:
            source = torch_files.save(case.path("in.safetensors"), tensors)
            case.listed(source, tensors)
            types = {key: tensor.dtype for key, tensor in tensors.items()}
            case.same(tensors, theirs.read_npz(case.convert(source, "out.npz"), types), "as npz, by numpy")
        with judge.case(name, PROGRAM, OURS_TO_THEIRS) as case:
            source = torch_files.save(case.path("in.safetensors"), tensors)
            case.same(tensors, torch_files.load(case.convert(source, "out.safetensors")))
            case.opened()
        with judge.case(f"{name}, by way of npz", PROGRAM, ROUND_TRIP) as case:
            source = torch_files.save(case.path("in.safetensors"), tensors)
            target = case.convert(case.convert(source, "out.npz"), "out.safetensors")
            case.same(tensors, torch_files.load(target))
            case.opened()


class Tied(torch.nn.Module):
    """A head that shares its embedding's weight."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(16, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.Linear(4, 16, bias=False)
        self.head.weight = self.embed.weight


def shared(judge):
    """Shared tensors: save_model writes one name and notes the other in the metadata, load_model puts both back."""
    for way in ("out.safetensors", "out.npz"):
        with judge.case(f"save_model, {way[4:]}, load_model", PROGRAM, ROUND_TRIP) as case:
            torch.manual_seed(1)
            model = Tied()
            save_model(model, case.path("in.safetensors"), {"format": "pt"})
            target = case.convert(case.path("in.safetensors"), way)
            if way == "out.npz":
                target = case.convert(target, "back.safetensors")
            else:
                noted = theirs.metadata(case.path("in.safetensors"))
                check(theirs.metadata(target) == noted, f"metadata {theirs.metadata(target)}, expected {noted}")
            again = Tied()
            load_model(again, target, strict=True)
            check(again.head.weight.data_ptr() == again.embed.weight.data_ptr(), "no longer tied")
            expected = {name: bits.of_torch(value) for name, value in model.state_dict().items()}
            case.same(expected, {name: bits.of_torch(value) for name, value in again.state_dict().items()})
            case.opened()


def oracle(judge):
    """The integer rounding that judges f64 agrees with exact fractions, and with torch where torch rounds once."""
    with judge.case("the judge's own rounding", "python", ROUND_TRIP) as case:
        generator = models.generator("oracle")
        for target in casts.FORMATS:
            if target == "f32":
                raw = generator.integers(0, 1 << 63, 20_000, dtype=np.uint64) * np.uint64(2)
            else:
                raw = casts.f64_samples(target, generator, 2000)
            raw = raw[~casts.is_nan(raw, "f64") & np.isfinite(raw.view(np.float64))]
            few = raw[:: max(len(raw) // 2000, 1)]
            slow = [casts.exact_by_fractions(value, target) for value in few.view(np.float64)]
            check((casts.exact(few, target) == np.array(slow, casts.codes(target))).all(), f"{target}: fractions disagree")
            with np.errstate(all="ignore"):
                narrow = np.unique(raw.view(np.float64).astype(np.float32)).view(np.uint32)
                wide = narrow.view(np.float32).astype(np.float64).view(np.uint64)
            check((casts.exact(wide, target) == casts.torch_cast(narrow, "f32", target)).all(), f"{target}: torch disagrees")
            case.values += len(few) + len(wide)
        case.opened()


def samples(judge, source, target):
    """Codes of `source` that matter for a cast to `target`."""
    if source == "f32":
        return casts.f32_samples(target, models.generator(f"cast {target}"), 2_000_000 if judge.full else 100_000)
    return np.arange(1 << (8 * casts.codes(source).itemsize), dtype=np.uint32).astype(casts.codes(source))


def ours(case, raw, source, target, *options, name="cast"):
    """What modelferry makes of these codes with --dtype."""
    path = torch_files.save(case.path(f"{name}.safetensors"), {"x": bits.Tensor(source, raw.shape, raw.tobytes())})
    made = case.convert(path, f"{name}-{target}.safetensors", "--dtype", target, *options)
    found = torch_files.load(made) if target in LOADED else theirs.read_safetensors(made)
    case.opened()
    check((found["x"].dtype, found["x"].shape) == (target, raw.shape), f"became {found['x'].dtype}{found['x'].shape}")
    return np.frombuffer(found["x"].data, casts.codes(target))


def agree(case, raw, expected, found, source, target):
    """Every code is as expected."""
    wrong = np.nonzero(expected != found)[0]
    if len(wrong):
        shown = ", ".join(f"{raw[i]:#x} became {found[i]:#x}, expected {expected[i]:#x}" for i in wrong[:5])
        check(False, f"{source} to {target}: {len(wrong)} of {len(raw)} differ: {shown}")
    case.values += len(raw)


def rounding(judge):
    """--dtype gives torch's very bytes: ties, subnormals, overflow, infinity; NaN too wherever torch agrees with itself."""
    jobs = {(source, target): samples(judge, source, target) for source, target in ROUNDING}
    nans = {key: raw[casts.is_nan(raw, key[0])] for key, raw in jobs.items()}
    nans = {key: raw[:: max(len(raw) // casts.SINGLES, 1)] for key, raw in nans.items()}
    others = casts.other_answers(nans, judge.folder)
    for (source, target), raw in jobs.items():
        with judge.case(f"{source} to {target}", PROGRAM, OURS_TO_THEIRS) as case:
            expected = casts.torch_cast(raw, source, target)
            nan = casts.is_nan(raw, source)
            found = ours(case, raw, source, target, *ALLOW_OVERFLOW)
            agree(case, raw[~nan], expected[~nan], found[~nan], source, target)
            check(casts.is_nan(found[nan], target).all(), f"{source} to {target}: a NaN became a number")
            not_a_number(case, nans[source, target], others[source, target], source, target)


def not_a_number(case, raw, others, source, target):
    """NaN by NaN: where torch's answers agree ours is the same. All count as compared, for they must all be NaN."""
    vector = casts.torch_cast(np.tile(raw, 4), source, target)[: len(raw)]
    clear = (vector == others[0]) & (vector == others[1])
    if target == "bf16":
        # 0xffff or 0x7fc0 by the processor torch runs on; modelferry keeps sign and payload, the same everywhere.
        clear[:] = False
    found = ours(case, raw, source, target, name="nan")
    check(casts.is_nan(found, target).all(), f"{source} to {target}: a NaN became a number")
    agree(case, raw[clear], vector[clear], found[clear], source, target)
    case.values += int((~clear).sum())
    if not clear.all():
        case.note(f"torch disagrees with itself about {(~clear).sum()} of {len(raw)} NaNs, for which any NaN is right")


def widening(judge):
    """Casts that lose nothing; NaNs stay NaNs."""
    for source, target in WIDENING:
        with judge.case(f"{source} to {target}", PROGRAM, OURS_TO_THEIRS) as case:
            raw = casts.f32_samples("bf16", models.generator("widen"), 10_000) if source == "f32" else \
                samples(judge, source, target)
            nan = casts.is_nan(raw, source)
            expected = casts.torch_cast(raw, source, target)
            found = ours(case, raw, source, target)
            agree(case, raw[~nan], expected[~nan], found[~nan], source, target)
            check(casts.is_nan(found[nan], target).all(), f"{source} to {target}: a NaN became a number")


def from_f64(judge):
    """f64 is rounded once: torch's answer for f32; the exact one for the rest, which torch rounds twice."""
    for target in casts.FORMATS:
        with judge.case(f"f64 to {target}", PROGRAM if target == "f32" else "python", OURS_TO_THEIRS) as case:
            count = 1_000_000 if judge.full else 100_000
            raw = casts.f64_samples("bf16" if target == "f32" else target, models.generator(f"f64 {target}"), count)
            nan = casts.is_nan(raw, "f64")
            torchs = casts.torch_cast(raw, "f64", target)
            expected = torchs if target == "f32" else casts.exact(raw, target)
            found = ours(case, raw, "f64", target, *ALLOW_OVERFLOW)
            agree(case, raw[~nan], expected[~nan], found[~nan], "f64", target)
            check(casts.is_nan(found[nan], target).all(), f"f64 to {target}: a NaN became a number")
            if target != "f32":
                twice = int((torchs[~nan] != expected[~nan]).sum())
                check(twice > 0 or target not in ("f16", "bf16"), "the sample holds no value that two roundings get wrong")
                case.note(f"torch's double rounding differs for {twice} of {len(raw)}")


def refusals(judge):
    """A value that becomes infinite, NaN or clipped is refused unless allowed; nothing is written."""
    beyond = {"f16": 65520.0, "bf16": 3.4e38, "f8_e4m3": 465.0, "f8_e5m2": 61440.0, "f8_e4m3fnuz": 250.0,
              "f8_e5m2fnuz": 61440.0}
    within = {"f16": 65519.0, "bf16": 3.38e38, "f8_e4m3": 463.0, "f8_e5m2": 61439.0, "f8_e4m3fnuz": 240.0,
              "f8_e5m2fnuz": 57344.0}
    for target, value in beyond.items():
        with judge.case(f"overflow to {target}", PROGRAM, OURS_TO_THEIRS) as case:
            tensor = bits.of_numpy(np.array([1.0, -value, 0.5], np.float32))
            source = torch_files.save(case.path("in.safetensors"), {"x": tensor})
            case.refused(source, "refused.safetensors", EXIT_CANNOT_REPRESENT, "--dtype", target)
            raw = np.array([1.0, -within[target], 0.5], np.float32).view(np.uint32)
            agree(case, raw, casts.torch_cast(raw, "f32", target), ours(case, raw, "f32", target), "f32", target)


def untouched(judge):
    """--dtype leaves integers, truth values and complex numbers alone, and --keep-dtype what it names."""
    with judge.case("--dtype touches floating tensors only", PROGRAM, OURS_TO_THEIRS) as case:
        whole = [name for name in LOADED if not name.startswith(("f", "bf"))]
        tensors = models.every_dtype(whole)
        values = {name: np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5) for name in ("a.weight", "a.norm", "b.weight")}
        source = torch_files.save(case.path("in.safetensors"), tensors | {k: bits.of_numpy(v) for k, v in values.items()})
        expected = tensors | {name: bits.of_torch(torch.from_numpy(value).to(torch.bfloat16)) for name, value in values.items()}
        expected["a.norm"] = bits.of_numpy(values["a.norm"])
        target = case.convert(source, "out.safetensors", "--dtype", "bf16", "--keep-dtype", "*.norm")
        case.same(expected, torch_files.load(target))
        case.opened()
