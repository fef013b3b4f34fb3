"""f32 to bf16, safetensors."""

import sys
import time

import torch
from safetensors.torch import load_file, save_file

begun = time.perf_counter()
save_file({name: tensor.to(torch.bfloat16) for name, tensor in load_file(sys.argv[1]).items()}, sys.argv[2])
print(time.perf_counter() - begun)
