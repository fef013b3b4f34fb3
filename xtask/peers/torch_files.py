"""safetensors files by way of torch."""

from safetensors.torch import load_file, save_file

import bits


def save(path, tensors, metadata=None):
    """Writes a file with safetensors.torch."""
    save_file({name: bits.to_torch(tensor) for name, tensor in tensors.items()}, path, metadata or {"format": "pt"})
    return path


def load(path):
    """Reads a file with safetensors.torch."""
    return {name: bits.of_torch(tensor) for name, tensor in load_file(path).items()}
