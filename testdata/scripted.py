"""The module of the TorchScript fixture, alone in this file: TorchScript records the lines that its source stands on."""

import torch


class Scripted(torch.nn.Module):
    """Parameters, a buffer and a module in a module; the constants of torch's own modules would come in chance order."""

    def __init__(self, weight, inner=None):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        self.register_buffer("steps", torch.tensor([5, 6, 7]))
        self.inner = inner or torch.nn.Identity()

    def forward(self, x):
        """Something of each."""
        return self.inner(x @ self.weight) + self.steps
