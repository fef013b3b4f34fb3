#!/usr/bin/env python3
"""Makes every fixture below testdata/models and testdata/bad, and ORIGIN.md, which says where each comes from.

    python testdata/make.py            write them all anew
    python testdata/make.py --check    make them elsewhere and compare; exit 1 if a file differs

Run it in an environment with the packages of xtask/peers/requirements.txt (numpy, ml_dtypes, safetensors, torch,
huggingface_hub, onnx, gguf, flax, msgpack, xllamacpp); made with CPython 3.11 and those versions. The output depends on no clock, path or random
seed of the machine. Deflated files may differ with the zlib that Python was built with; ORIGIN.md names the one used.
"""

import argparse
import importlib.metadata
import platform
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import make_bad_gguf
import make_bad_msgpack
import make_bad_npz
import make_bad_onnx
import make_bad_safetensors
import make_bad_torch
import make_checkpoints
import make_gguf
import make_hf
import make_msgpack
import make_npz
import make_onnx
import make_owners
import make_safetensors
import make_torch

HERE = Path(__file__).parent
PACKAGES = ("numpy", "ml_dtypes", "safetensors", "torch", "huggingface_hub", "onnx", "gguf", "flax", "msgpack")
MODULES = (make_safetensors, make_npz, make_torch, make_checkpoints, make_onnx, make_gguf, make_msgpack,
           make_bad_safetensors, make_bad_npz, make_bad_torch, make_bad_onnx, make_bad_gguf, make_bad_msgpack, make_hf)


class Out:
    """A folder that fixtures go to, and the list of their origins."""

    def __init__(self, root):
        self.root = root
        self.origins = {}

    def path(self, name):
        """Where the file of this name goes."""
        return self.root / name

    def write(self, name, data, by, what):
        """Writes one file and records that `by` made it, and what it holds."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), f"{name} is made twice"
        path.write_bytes(data)
        self.claim(name, what, by)

    def claim(self, name, what, by="huggingface_hub.save_torch_state_dict"):
        """Records a file that a library wrote itself, and gives it an ordinary mode."""
        self.path(name).chmod(0o644)
        self.origins[name] = (by, what)

    def origin(self):
        """The text of ORIGIN.md."""
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
        lines = [
            "# Origin of the fixtures",
            "",
            "Made by `make.py` in this folder; change that, not this page or the files.",
            f"Versions: Python {platform.python_version()}, zlib {zlib.ZLIB_RUNTIME_VERSION}, {versions}.",
            "Licence of all: ours, MIT OR Apache-2.0. “hand” means written byte by byte, by no library.",
            "What the formats' own programs say about the files in `bad` is in `bad/OWNERS.md`; what we say lies beside",
            "each as `.expect`, recorded by the tests.",
            "",
            "| file | bytes | made by | what |",
            "|---|---|---|---|",
        ]
        for name, (by, what) in sorted(self.origins.items()):
            lines.append(f"| {name} | {self.path(name).stat().st_size} | {by} | {what.replace('|', chr(92) + '|')} |")
        return "\n".join(lines) + "\n"


def make(root):
    """Makes everything below `root`; returns the names of the files, ORIGIN.md included."""
    out = Out(root)
    for module in MODULES:
        module.make(out)
    make_owners.make(out)
    (root / "ORIGIN.md").write_text(out.origin(), encoding="utf-8")
    return [*out.origins, "ORIGIN.md"]


def listed(root):
    """The files that the ORIGIN.md below `root` lists: what an earlier run made."""
    page = root / "ORIGIN.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith(("| models/", "| bad/"))}


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is here; write nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        names = make(made)
        stale = listed(HERE) - set(names)
        differ = [n for n in names if not (HERE / n).is_file() or (HERE / n).read_bytes() != (made / n).read_bytes()]
        if not check:
            for name in stale:
                (HERE / name).unlink(missing_ok=True)
            for name in names:
                (HERE / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(made / name, HERE / name)
    total = sum((HERE / name).stat().st_size for name in names if (HERE / name).exists())
    print(f"{len(names)} files, {total} bytes, {len(differ)} changed, {len(stale)} no longer made")
    for name in [*differ, *sorted(stale)]:
        print(f"  {name}")
    sys.exit(1 if check and (differ or stale) else 0)


if __name__ == "__main__":
    main()
