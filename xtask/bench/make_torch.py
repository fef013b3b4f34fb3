"""A state dict of f32 as torch saves it; with `adam`, as a training run saves it beside its optimizer."""

import json
import sys

import torch

torch.manual_seed(0)
weights = {name: torch.randn(shape) for name, shape in json.loads(sys.argv[2]).items()}
state = weights
if sys.argv[3] == "adam":
    moments = {idx: {"step": torch.tensor(1.0), "exp_avg": torch.randn_like(weight), "exp_avg_sq": torch.rand_like(weight)}
               for idx, weight in enumerate(weights.values())}
    groups = [{"lr": 0.001, "betas": (0.9, 0.999), "params": list(moments)}]
    state = {"model": weights, "optimizer": {"state": moments, "param_groups": groups}, "epoch": 1}
torch.save(state, sys.argv[1])
