"""GGUF to GGUF by llama-quantize's own function, to the named preset, on every core there is."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

import llama_quantize  # noqa: E402

library = llama_quantize.load(Path(sys.argv[4]))
begun = time.perf_counter()
llama_quantize.quantize(library, sys.argv[1], sys.argv[2], sys.argv[3], threads=os.cpu_count())
print(time.perf_counter() - begun)
