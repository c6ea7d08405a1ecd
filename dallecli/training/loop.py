"""One training loop for every network: time-budgeted, resumable after a kill, with an average of the weights.

A run lives in a folder: `state.safetensors` holds weights, their average and the optimiser's moments, with the
counters in its header, and is replaced atomically, so a kill at any moment costs at most the time since
the last save. `log.jsonl` gains one line an interval. Random numbers come from (seed, step), never from
how often a run was interrupted.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dallecli.errors import BadFile
from dallecli.picture import encode, grid, publish

STATE = "state.safetensors"
"""The name of a run's state in its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """How a network is optimised: AdamW, warm-up, a constant rate, and a linear decay at the end of the budget."""

    batch: int
    rate: float
    warmup: int = 100
    decay: float = 0.35
    """The share of the budget over which the rate falls to a fiftieth."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    average: float = 0.998
    """The decay of the weights' average a step, reached after a warm-up of (1 + n) / (10 + n)."""


class Objective(Protocol):
    """What a run minimises."""

    name: str

    @property
    def module(self) -> nn.Module:
        """All that is trained, and all that is saved."""

    def loss(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the mean loss of a batch drawn with `generator`."""

    def validate(self) -> dict[str, float]:
        """Return figures on held-out scenes. Called with the averaged weights in `module`."""

    def samples(self) -> Tensor | None:
        """Return pictures [n 3 h w] in [-1, 1] that show how far it is, or None. Called likewise."""


@dataclass(slots=True)
class Counters:
    """How far a run is: optimiser steps, samples seen, and seconds spent training."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the loop tells whoever watches: the run, how far it is, the recent loss and speed, validation figures."""

    name: str
    counters: Counters
    budget: float
    loss: float
    samples_per_second: float
    figures: dict[str, float]


class Run:
    """A training run in a folder.

    Args:
        objective: what is minimised; its module's weights are replaced by the saved ones where there are any.
        how: the optimiser's settings.
        folder: where the state lives; created when missing.
        device: where the module and the objective's data are.
        autocast: the half type of the arithmetic, or None for float32.
        seed: of every random draw.
    """

    def __init__(
        self,
        objective: Objective,
        how: Optimisation,
        folder: Path,
        device: torch.device,
        autocast: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        self.objective = objective
        self.how = how
        self.folder = folder
        self.device = device
        self.autocast = autocast
        self.seed = seed
        self.counters = Counters()
        folder.mkdir(parents=True, exist_ok=True)
        module = objective.module
        self.names = [name for name, _ in module.named_parameters()]
        self.weights = list(module.parameters())
        self.average = [weight.detach().clone() for weight in self.weights]
        plain = [weight for weight in self.weights if weight.ndim < 2]
        decayed = [weight for weight in self.weights if weight.ndim >= 2]
        groups = [{"params": decayed, "weight_decay": how.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=how.rate, betas=how.betas, fused=True)
        if self.state_file.exists():
            self._resume()

    @property
    def state_file(self) -> Path:
        """The file that holds the whole state."""
        return self.folder / STATE

    def train(
        self,
        budget: float,
        watch: Callable[[Report], None] | None = None,
        *,
        steps: int | None = None,
        every: float = 20.0,
        save_every: float = 60.0,
        validate_every: float = 300.0,
    ) -> None:
        """Train until `budget` seconds of training, or `steps` steps where given, are spent, earlier sessions included.

        The state is saved at the end and on any exception, `KeyboardInterrupt` among them, before it is passed on.
        """
        try:
            self._train(budget, steps, watch, every, save_every, validate_every)
        finally:
            self.save()

    def _train(
        self,
        budget: float,
        steps: int | None,
        watch: Callable[[Report], None] | None,
        every: float,
        save_every: float,
        validate_every: float,
    ) -> None:
        counters = self.counters
        spent = counters.seconds
        reported, saved, validated = spent, spent, spent
        losses: list[Tensor] = []
        since = counters.samples
        while (progress := self._progress(budget, steps)) < 1:
            start = time.perf_counter()
            losses.append(self._step(progress))
            counters.step += 1
            counters.samples += self.how.batch
            # Reading a loss waits for the device: only now and then.
            if self.device.type == "cpu" or len(losses) % 50 == 0:
                losses[-1].item()
            counters.seconds += time.perf_counter() - start
            last = self._progress(budget, steps) >= 1
            if counters.seconds - saved >= save_every:
                self.save()
                saved = counters.seconds
            if counters.seconds - reported >= every or last:
                figures = {}
                if counters.seconds - validated >= validate_every or last:
                    with self.averaged():
                        figures = self.objective.validate()
                        self._show(self.objective.samples())
                    validated = counters.seconds
                speed = (counters.samples - since) / max(counters.seconds - reported, 1e-9)
                loss = float(torch.stack(losses).mean())
                self._report(Report(name=self.objective.name, counters=counters, budget=budget, loss=loss,
                                    samples_per_second=speed, figures=figures), watch)  # fmt: skip
                losses, since, reported = [], counters.samples, counters.seconds

    def _progress(self, budget: float, steps: int | None) -> float:
        by_time = self.counters.seconds / budget
        return by_time if steps is None else max(by_time, self.counters.step / steps)

    def _step(self, progress: float) -> Tensor:
        how, step = self.how, self.counters.step
        rate = how.rate * min(1.0, (step + 1) / how.warmup, max(0.02, (1 - progress) / how.decay))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = torch.Generator(self.device).manual_seed(hash_seed(self.seed, step))
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            loss = self.objective.loss(how.batch, generator)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch's stubs
        nn.utils.clip_grad_norm_(self.weights, how.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(how.average, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [w.detach() for w in self.weights], 1 - decay)
        return loss.detach()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the module, and the trained ones back afterwards."""
        kept = [weight.detach().clone() for weight in self.weights]
        with torch.no_grad():
            torch._foreach_copy_([w.data for w in self.weights], self.average)
        training = self.objective.module.training
        self.objective.module.eval()
        try:
            yield
        finally:
            self.objective.module.train(training)
            with torch.no_grad():
                torch._foreach_copy_([w.data for w in self.weights], kept)

    def save(self) -> None:
        """Write the state, atomically."""
        tensors: dict[str, Tensor] = {}
        for name, weight, average in zip(self.names, self.weights, self.average, strict=True):
            tensors[f"weight.{name}"] = weight.detach().cpu().contiguous()
            tensors[f"average.{name}"] = average.cpu().contiguous()
            state = self.optimizer.state.get(weight)
            if state:
                tensors[f"exp_avg.{name}"] = state["exp_avg"].cpu().contiguous()
                tensors[f"exp_avg_sq.{name}"] = state["exp_avg_sq"].cpu().contiguous()
        counters = {"step": self.counters.step, "samples": self.counters.samples, "seconds": self.counters.seconds}
        publish(self.state_file, save(tensors, {"counters": json.dumps(counters)}), force=True)

    def _resume(self) -> None:
        with safe_open(self.state_file, framework="pt") as file:
            keys = set(file.keys())
            for kind, targets in (("weight", self.weights), ("average", self.average)):
                for name, target in zip(self.names, targets, strict=True):
                    key = f"{kind}.{name}"
                    if key not in keys or tuple(file.get_slice(key).get_shape()) != tuple(target.shape):
                        raise BadFile(
                            f"the training state does not fit the network: {key}",
                            where=str(self.state_file),
                            hint="train in another folder, or remove this one to start again",
                        )
                    target.data.copy_(file.get_tensor(key))
            self.counters = Counters(**json.loads(file.metadata()["counters"]))
            for name, weight in zip(self.names, self.weights, strict=True):
                if f"exp_avg.{name}" not in keys:
                    continue
                moments = {key: file.get_tensor(f"{key}.{name}").to(self.device) for key in ("exp_avg", "exp_avg_sq")}
                step = torch.tensor(float(self.counters.step), device=self.device)
                self.optimizer.state[weight] = {"step": step, **moments}

    def _show(self, samples: Tensor | None) -> None:
        if samples is None:
            return
        pixels = ((samples.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        images = [Image.fromarray(one).resize((128, 128), Image.Resampling.NEAREST) for one in pixels]
        path = self.folder / f"samples-{self.counters.step:07d}.png"
        publish(path, encode(grid(images), "png", None), force=True)

    def _report(self, report: Report, watch: Callable[[Report], None] | None) -> None:
        counters = report.counters
        line: dict[str, Any] = {
            "step": counters.step,
            "samples": counters.samples,
            "seconds": round(counters.seconds, 1),
            "loss": round(report.loss, 5),
            "samples_per_second": round(report.samples_per_second, 1),
            **{key: round(value, 5) for key, value in report.figures.items()},
        }
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if not math.isfinite(report.loss):
            raise FloatingPointError(f"the loss of {report.name} became {report.loss} at step {counters.step}")
        if watch is not None:
            watch(report)


def hash_seed(seed: int, step: int) -> int:
    """Return a 63-bit seed that differs for every (seed, step): the SplitMix64 finaliser."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) >> 1
