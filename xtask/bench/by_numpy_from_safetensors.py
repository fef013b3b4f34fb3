"""safetensors to npz."""

import sys
import time

import numpy as np
from safetensors.numpy import load_file

begun = time.perf_counter()
np.savez(sys.argv[2], **load_file(sys.argv[1]))
print(time.perf_counter() - begun)
