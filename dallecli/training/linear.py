"""Linear maps that are fitted, not trained."""

from typing import NamedTuple

import torch
from torch import Tensor

RIDGE = 0.01
"""What is added to the variances of the inputs, as a share of their mean."""


class LinearMap(NamedTuple):
    """weight: [out in]. bias: [out]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return [n out] from [n in]."""
        return inputs @ self.weight.T + self.bias


def ridge(inputs: Tensor, outputs: Tensor) -> LinearMap:
    """Return the ridge regression of `outputs` [n out] on `inputs` [n in]."""
    mean, centre = inputs.mean(dim=0), outputs.mean(dim=0)
    inputs, outputs = inputs - mean, outputs - centre
    gram = inputs.T @ inputs
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
    weight = torch.linalg.solve(gram, inputs.T @ outputs).T
    return LinearMap(weight, centre - weight @ mean)
