"""AdamW, or Muon for the matrices of a network."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dallecli.nets.layers import channels_last
from dallecli.training.batch import Draw
from dallecli.training.loop import Optimisation, TrainingRun
from dallecli.training.machine import Machine
from dallecli.training.optimizer import ADAM_MOMENTS, MUON_MOMENTS, Optimizer

RATE = 1e-3
MUON = Optimisation(batch=8, rate=1e-2, warmup=1, muon=True)
CPU = Machine(torch.device("cpu"))


class Net(nn.Module):
    """An embedding, a convolution from three channels, one between many, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 40)
        self.first = nn.Conv2d(3, 40, 3)
        self.conv = nn.Conv2d(40, 48, 3)
        self.linear = nn.Linear(48, 64)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b 64] of pictures [b 3 h w]."""
        y: Tensor = self.linear(self.conv(self.first(x).relu()).mean(dim=(2, 3)))
        return y + self.words.weight.sum()


def optimizer_of(net: nn.Module, muon: bool = True) -> Optimizer:
    return Optimizer(net, muon=muon, weight_decay=0.01, betas=(0.9, 0.99))


def step(net: Net, optimizer: Optimizer, seed: int) -> None:
    net(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    optimizer.step(RATE)


def test_muon_has_the_matrices_and_adamw_all_else() -> None:
    net = Net()
    optimizer = optimizer_of(net)
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    assert all(not optimizer.moments(weight) for weight in net.parameters())
    step(net, optimizer, 1)
    kinds = {name: frozenset(optimizer.moments(weight)) for name, weight in net.named_parameters()}
    assert {name for name, kind in kinds.items() if kind == MUON_MOMENTS} == {"conv.weight", "linear.weight"}
    assert set(kinds.values()) == {MUON_MOMENTS, ADAM_MOMENTS}
    assert all(not torch.equal(weight, before[name]) for name, weight in net.named_parameters())
    assert all(weight.grad is None for weight in net.parameters())


def test_without_muon_every_weight_is_adamws() -> None:
    net, other = Net(), Net()
    optimizer = optimizer_of(net, muon=False)
    published = torch.optim.AdamW(
        [
            {"params": [weight for weight in other.parameters() if weight.ndim >= 2], "weight_decay": 0.01},
            {"params": [weight for weight in other.parameters() if weight.ndim < 2], "weight_decay": 0.0},
        ],
        lr=RATE,
        betas=(0.9, 0.99),
    )
    for seed in range(3):
        step(net, optimizer, seed)
        other(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
        published.step()
        published.zero_grad()
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        # Fused and not: the same arithmetic in another order.
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_matrix_takes_the_steps_of_torchs_muon() -> None:
    net, other = Net(), Net()
    optimizer = optimizer_of(net)
    alone = torch.optim.Muon([other.linear.weight], lr=RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    rest = optimizer_of(nn.ModuleList([other.words, other.first, other.conv]))
    for seed in range(3):
        step(net, optimizer, seed)
        other(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
        alone.step()
        alone.zero_grad()
        rest.step(RATE)
        with torch.no_grad():
            other.linear.bias.copy_(net.linear.bias)
    assert torch.equal(net.linear.weight, other.linear.weight)


def test_a_convolution_takes_the_same_steps_in_either_memory_layout() -> None:
    planes, pixels = Net(), channels_last(Net())
    assert not pixels.conv.weight.is_contiguous()
    taken = []
    for net in (planes, pixels):
        before = net.conv.weight.detach().clone()
        optimizer = optimizer_of(net)
        for seed in range(3):
            step(net, optimizer, seed)
        taken.append(net.conv.weight.detach() - before)
    # Muon multiplies in bfloat16, eight bits, and rounds a matrix with its columns in another order otherwise.
    assert (taken[0] - taken[1]).norm() < 0.02 * taken[0].norm()


def test_moments_of_another_optimiser_are_left_out() -> None:
    net = Net()
    theirs = optimizer_of(net, muon=False)
    step(net, theirs, 1)
    optimizer = optimizer_of(net)
    for weight in net.parameters():
        optimizer.remember(weight, theirs.moments(weight), 1)
    assert not optimizer.moments(net.conv.weight)
    assert torch.equal(optimizer.moments(net.first.weight)["exp_avg"], theirs.moments(net.first.weight)["exp_avg"])
    step(net, optimizer, 2)
    assert optimizer.moments(net.conv.weight)


class Wide:
    """Fit a linear map of 40 numbers to 40 others."""

    name = "wide"

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(40, 40)
        self.wanted = torch.randn(40, 40)

    def loss(self, draw: Draw) -> Tensor:
        x = draw.normal(40)
        return nn.functional.mse_loss(self.module(x), x @ self.wanted)

    def validate(self) -> dict[str, float]:
        return {}

    def samples(self) -> None:
        return None


def stepped(run: TrainingRun, steps: int) -> TrainingRun:
    for _ in range(steps):
        run._step(0.0)
        run.counters.step += 1
    return run


def test_an_interrupted_run_with_muon_takes_the_same_steps_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = stepped(TrainingRun(Wide(), MUON, tmp_path / "whole", CPU), 12)
    stepped(TrainingRun(Wide(), MUON, tmp_path / "parts", CPU), 5).save()
    again = stepped(TrainingRun(Wide(), MUON, tmp_path / "parts", CPU), 7)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again.weights, whole.weights, strict=True))


def test_a_run_with_muon_may_go_on_with_adamw(tmp_path: Path) -> None:
    stepped(TrainingRun(Wide(), MUON, tmp_path, CPU), 5).save()
    again = TrainingRun(Wide(), replace(MUON, muon=False), tmp_path, CPU)
    assert again.counters.step == 5
    assert not again.optimizer.moments(again.weights[0])
    stepped(again, 1)
    assert set(again.optimizer.moments(again.weights[0])) == ADAM_MOMENTS
