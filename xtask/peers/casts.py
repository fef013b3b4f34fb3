"""What a cast must give: torch's answers, and where torch rounds twice, the right ones worked out with integers.

torch is asked in three ways, because it does not agree with itself about NaN: through its vector code, through its
plain code (`python casts.py IN OUT`, run with ATEN_CPU_CAPABILITY=default), and there one value at a time.
"""

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np

import bits

# name -> (exponent bits, mantissa bits, bias, largest finite code, code beyond it); codes without the sign bit.
FORMATS = {
    "f32": (8, 23, 127, 0x7F7FFFFF, 0x7F800000),
    "f16": (5, 10, 15, 0x7BFF, 0x7C00),
    "bf16": (8, 7, 127, 0x7F7F, 0x7F80),
    "f8_e5m2": (5, 2, 15, 0x7B, 0x7C),
    "f8_e4m3": (4, 3, 7, 0x7E, 0x7E),  # saturates
}
SINGLES = 256  # values cast one at a time


def codes(dtype):
    """The unsigned type as wide as this one."""
    return np.dtype(f"u{np.dtype(bits.TYPES[dtype][1]).itemsize}")


def torch_cast(raw, source, target):
    """The codes that torch makes of these codes."""
    import torch

    data = raw.tobytes()
    tensor = bits.to_torch(bits.Tensor(source, raw.shape, data))
    result = tensor.to(getattr(torch, bits.TYPES[target][2]))
    return np.frombuffer(bits.of_torch(result).data, codes(target))


def is_nan(raw, dtype):
    """Which codes are NaN."""
    with np.errstate(all="ignore"):
        return np.isnan(raw.view(bits.TYPES[dtype][1]).astype(np.float64))


def other_answers(jobs, folder):
    """torch's answers from its plain code for the NaNs of each job, at once and one at a time.

    `jobs` is {(source, target): NaN codes}; the answers have the same keys.
    """
    given, made = folder / "nans.npz", folder / "answers.npz"
    np.savez(given, **{f"{source} {target}": raw for (source, target), raw in jobs.items()})
    subprocess.run([sys.executable, __file__, given, made], check=True,
                   env={**os.environ, "ATEN_CPU_CAPABILITY": "default"})
    with np.load(made) as answers:
        return {key: (answers[f"{key[0]} {key[1]} all"], answers[f"{key[0]} {key[1]} single"]) for key in jobs}


def answer(given, made):
    """The other process."""
    out = {}
    with np.load(given) as jobs:
        for key in jobs.files:
            source, target = key.split()
            raw = jobs[key]
            out[f"{key} all"] = torch_cast(raw, source, target)
            singles = [torch_cast(raw[i:i + 1], source, target) for i in range(len(raw))]
            out[f"{key} single"] = np.concatenate(singles) if singles else out[f"{key} all"]
    np.savez(made, **out)


def exact(raw, target):
    """f64 codes rounded once, to nearest even, to a smaller type; integers all the way. NaN is not looked at."""
    exponent_bits, mantissa, bias, largest, beyond = FORMATS[target]
    sign = (raw >> np.uint64(63)).astype(np.uint64)
    exponent = ((raw >> np.uint64(52)) & np.uint64(0x7FF)).astype(np.int64)
    fraction = raw & np.uint64((1 << 52) - 1)
    significand = np.where(exponent == 0, fraction, fraction | np.uint64(1 << 52))
    exponent = np.maximum(exponent, 1) - 1023 + bias  # as the target would store it
    # Bits to drop: more of them below the smallest normal. From 54 on, nothing but zero is left.
    drop = np.minimum(52 - mantissa + np.maximum(1 - exponent, 0), 54).astype(np.uint64)
    kept = significand >> drop
    rest = significand & ((np.uint64(1) << drop) - np.uint64(1))
    half = np.uint64(1) << (drop - np.uint64(1))
    kept += ((rest > half) | ((rest == half) & (kept & np.uint64(1) == 1))).astype(np.uint64)
    # A significand with its leading one adds one to the exponent field; a carry adds another, as it should.
    steps = np.clip(exponent - 1, 0, (1 << exponent_bits) + 1).astype(np.uint64)
    code = kept + (steps << np.uint64(mantissa))
    code = np.where(code > largest, np.uint64(beyond), code)
    return (code | sign << np.uint64(exponent_bits + mantissa)).astype(codes(target))


def exact_by_fractions(value, target):
    """The same for one finite value, by looking for the nearest of all codes: slow, and nothing like `exact`."""
    exponent_bits, mantissa, bias, largest, beyond = FORMATS[target]

    def worth(code):
        exponent, fraction = code >> mantissa, code & ((1 << mantissa) - 1)
        scale = Fraction(2) ** (max(exponent, 1) - bias - mantissa)
        return (fraction + ((1 << mantissa) if exponent else 0)) * scale

    magnitude = abs(Fraction(value))
    low, high = 0, largest + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if worth(middle) <= magnitude else (low, middle)
    below, above = magnitude - worth(low), worth(low + 1) - magnitude
    code = low + (above < below or (above == below and low & 1))
    code = beyond if code > largest else code
    return code | (np.signbit(value) << (exponent_bits + mantissa))


def f32_samples(target, generator, random_count):
    """f32 codes around everything that a cast to `target` can get wrong.

    NaNs are made as codes: what a machine makes of them differs, and the samples must not.
    """
    every = np.arange(1 << (8 * codes(target).itemsize), dtype=np.uint32).astype(codes(target))
    numbers = every[~is_nan(every, target)].view(bits.TYPES[target][1])
    with np.errstate(all="ignore"):
        exactly = numbers.astype(np.float32)
        ordered = np.unique(exactly[np.isfinite(exactly)])
        middles = ((ordered[:-1].astype(np.float64) + ordered[1:]) / 2).astype(np.float32)
    near = np.concatenate([exactly, middles]).view(np.uint32)
    around = np.concatenate([near, near + np.uint32(1), near - np.uint32(1)])
    special = np.array([0, 1, 2, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000], np.uint32)
    payloads = np.arange(1, 0x800000, 0x8001, dtype=np.uint32) + np.uint32(0x7F800000)
    both_signs = np.concatenate([special, payloads])
    random = generator.integers(0, 1 << 32, random_count, dtype=np.uint32)
    return np.unique(np.concatenate([around, both_signs, both_signs | np.uint32(1 << 31), random]))


def f64_samples(target, generator, random_count):
    """f64 codes: numbers of f32, their neighbours, and values that two roundings get wrong."""
    narrow = f32_samples(target, generator, random_count)
    wide = narrow[~is_nan(narrow, "f32")].view(np.float32).astype(np.float64)
    # Near a tie of the target, nearer than f32 can tell: f32 rounds onto the tie, and the second rounding goes astray.
    raw = wide[np.isfinite(wide) & (wide != 0)].view(np.uint64)
    payloads = np.arange(1, 1 << 52, (1 << 46) + 1, dtype=np.uint64) + np.uint64(0x7FF << 52)
    random = generator.integers(0, 1 << 63, random_count, dtype=np.uint64) * np.uint64(2)
    return np.unique(np.concatenate([wide.view(np.uint64), raw + np.uint64(1), raw - np.uint64(1), payloads,
                                     payloads | np.uint64(1 << 63), random]))


if __name__ == "__main__":
    answer(*sys.argv[1:])
