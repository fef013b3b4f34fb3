"""Run by an old Python with an old torch, which knows nothing of this folder: writes state dicts, or says what files hold.

    python3 -I old_torch.py save FOLDER
    python3 -I old_torch.py load FILE …

Prints one JSON object: {file: {name: [type, shape, bytes as hexadecimal digits]}}, tied names under the key "ties".
"""

import json
import os
import sys

import torch

KINDS = ("bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128").split()
CODES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def told(state):
    """A state dict as text."""
    out = {}
    for name, tensor in state.items():
        tensor = tensor.detach().contiguous()
        plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        codes = plain.to(torch.uint8) if tensor.dtype == torch.bool else plain.view(CODES[plain.element_size()])
        out[name] = [str(tensor.dtype)[6:], list(tensor.shape), codes.numpy().tobytes().hex()]
    places = {}
    for name, tensor in state.items():
        places.setdefault(tensor.storage().data_ptr() if tensor.numel() else name, []).append(name)
    return {"tensors": out, "ties": sorted(names for names in places.values() if len(names) > 1)}


def states():
    """State dicts by file, with options of torch.save."""
    torch.manual_seed(1)
    base = torch.randn(4, 6)
    dtypes = {kind: (base * 50).to(getattr(torch, kind)) for kind in KINDS}
    views = {"t": base.t(), "row": base[1], "steps": base[::2, ::3], "expanded": base[0].expand(3, 6), "scalar": base[0, 0],
             "empty": torch.empty(0, 3)}
    tied = {"a": base.clone(), "c": base.clone()}
    tied["b"] = tied["a"]
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict()
    for name, state in (("dtypes", dtypes), ("views", views), ("tied", tied), ("module", module)):
        yield name + ".bin", state, {}
        yield name + "-legacy.bin", state, {"_use_new_zipfile_serialization": False}


def main():
    """Command line."""
    command, *paths = sys.argv[1:]
    out = {}
    if command == "save":
        for name, state, how in states():
            torch.save(state, os.path.join(paths[0], name), **how)
            out[name] = told(state)
    else:
        for path in paths:
            plain = told(torch.load(path, map_location="cpu"))
            assert plain == told(torch.load(path, map_location="cpu", weights_only=True)), "weights_only sees something else"
            out[path] = plain
    print(json.dumps({"torch": torch.__version__, "files": out}))


if __name__ == "__main__":
    main()
