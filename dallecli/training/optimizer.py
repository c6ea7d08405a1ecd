"""The optimiser of a run: AdamW, or Muon for the matrices of a network and AdamW for all else.

Muon (Jordan et al. 2024) lets every direction of a matrix' momentum count alike. Its steps are scaled to the size of
AdamW's (Liu et al. 2025, section 2.2), so both have the same rate and the same decay of weights.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

NARROWEST: Final = 32
"""A matrix with fewer rows or columns, as of a network's first and last layer, is AdamW's."""
ADAM_MOMENTS: Final = frozenset({"exp_avg", "exp_avg_sq"})
MUON_MOMENTS: Final = frozenset({"momentum_buffer"})


class Optimizer:
    """AdamW of all weights of a module, but for its matrices if Muon is to have those.

    Args:
        module: what is trained.
        muon: whether Muon has the matrices, which are the weights of linear layers and of convolutions.
        weight_decay: of matrices and of all else with more than one dimension.
        betas: AdamW's.
    """

    def __init__(self, module: nn.Module, muon: bool, weight_decay: float, betas: tuple[float, float]) -> None:
        self._matrices = _matrices(module) if muon else {}
        rest = [weight for weight in module.parameters() if weight not in self._matrices]
        groups = [
            {"params": [weight for weight in rest if weight.ndim >= 2], "weight_decay": weight_decay},
            {"params": [weight for weight in rest if weight.ndim < 2], "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(groups, betas=betas, fused=True)
        self._muon: torch.optim.Muon | None = None
        if self._matrices:
            matrices = list(self._matrices.values())
            self._muon = torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, rate: float) -> None:
        """Take a step along the gradients of the weights, and forget them."""
        for weight, matrix in self._matrices.items():
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad, like=weight)
            weight.grad = None
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def moments(self, weight: Tensor) -> dict[str, Tensor]:
        """What is remembered of a weight's gradients, by name; nothing before its first step. The tensors are alive."""
        matrix = self._matrices.get(weight)
        state = self._adam.state.get(weight) if matrix is None else self._muon_state.get(matrix)
        return {name: value for name, value in (state or {}).items() if name != "step"}

    def remember(self, weight: Tensor, moments: Mapping[str, Tensor], step: int) -> None:
        """Go on with the moments of a weight after so many steps; those of another optimiser are of no use."""
        matrix = self._matrices.get(weight)
        if matrix is not None:
            if moments.keys() == MUON_MOMENTS:
                self._muon_state[matrix] = dict(moments)
        elif moments.keys() == ADAM_MOMENTS:
            self._adam.state[weight] = {"step": torch.tensor(float(step), device=weight.device), **moments}

    @property
    def _muon_state(self) -> dict[Tensor, dict[str, Tensor]]:
        return {} if self._muon is None else self._muon.state

    @property
    def _all(self) -> list[torch.optim.Optimizer]:
        return [self._adam] if self._muon is None else [self._adam, self._muon]


def _matrices(module: nn.Module) -> dict[Tensor, nn.Parameter]:
    """The weights of linear layers and convolutions as matrices [out in], which share the memory of the weights."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    wide = [one.weight for one in layers if min(len(one.weight), one.weight[0].numel()) >= NARROWEST]
    return {weight: nn.Parameter(_as_matrix(weight.detach(), like=weight)) for weight in wide if weight.requires_grad}


def _as_matrix(tensor: Tensor, like: Tensor) -> Tensor:
    """A weight, or its gradient, as a matrix [out in], with the columns in the order of the weight's memory."""
    if like.is_contiguous():
        return tensor.reshape(len(tensor), -1)
    return tensor.permute(0, 2, 3, 1).reshape(len(tensor), -1)
