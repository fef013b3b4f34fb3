"""npz to safetensors."""

import sys
import time

import numpy as np
from safetensors.numpy import save_file

begun = time.perf_counter()
with np.load(sys.argv[1]) as archive:
    save_file({name: archive[name] for name in archive.files}, sys.argv[2])
print(time.perf_counter() - begun)
