"""safetensors to GGUF in blocks of the named type, by gguf-py's numpy; norms stay as they are, as in ours."""

import sys
import time

import gguf
from safetensors.numpy import load_file

begun = time.perf_counter()
kind = gguf.GGMLQuantizationType[sys.argv[3].upper()]
writer = gguf.GGUFWriter(sys.argv[2], "llama")
for name, tensor in load_file(sys.argv[1]).items():
    if tensor.ndim > 1:
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, tensor)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
print(time.perf_counter() - begun)
