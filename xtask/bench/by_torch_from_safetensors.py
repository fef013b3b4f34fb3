"""safetensors to a torch checkpoint."""

import sys
import time

import torch
from safetensors.torch import load_file

begun = time.perf_counter()
torch.save(load_file(sys.argv[1]), sys.argv[2])
print(time.perf_counter() - begun)
