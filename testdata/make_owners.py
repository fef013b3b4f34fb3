"""bad/OWNERS.md: what the programs that own the formats say about each bad file.

Where an owner takes a file and we do not, we are stricter on purpose; where it refuses and we do not, we should ask why.
"""

import subprocess
import sys
import tempfile

JUDGE = """
import io, resource, sys, warnings
import ml_dtypes, numpy as np
from safetensors import deserialize
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
warnings.simplefilter("ignore")

def take(path):
    data = open(path, "rb").read()
    if path.endswith(".safetensors"):
        return len(deserialize(data))
    value = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(value, np.ndarray):
        return 1
    with value:
        return len([value[name] for name in value.files])

for path in sys.stdin.read().splitlines():
    try:
        print("takes it, reads", take(path))
    except BaseException as error:
        print("refuses:", type(error).__name__)
"""


def make(out):
    """Asks safetensors and numpy about every bad file written so far, and writes the page."""
    names = sorted(n for n in out.origins if n.startswith("bad/") and n.endswith((".safetensors", ".npy", ".npz")))
    names = [n for n in names if not n.startswith("bad/index/")]
    paths = "\n".join(str(out.path(name).resolve()) for name in names)
    with tempfile.TemporaryDirectory() as empty:
        answer = subprocess.run([sys.executable, "-c", JUDGE], input=paths, cwd=empty, text=True, check=True,
                                stdout=subprocess.PIPE).stdout.splitlines()
    assert len(answer) == len(names)
    lines = ["# What the owners say about these files", "",
             "Made by `make.py`: safetensors.deserialize for safetensors, np.load with allow_pickle=False for npy and npz.",
             "", "| file | owner |", "|---|---|"]
    lines += [f"| {name.removeprefix('bad/')} | {verdict} |" for name, verdict in zip(names, answer)]
    out.write("bad/OWNERS.md", ("\n".join(lines) + "\n").encode(), "make_owners.py", "the owners' verdicts")
