"""One training loop for every network: time-budgeted, resumable after a kill, with an average of the weights.

A run lives in a folder: `state.safetensors` holds weights, their average and the optimiser's moments, with the
counters in its header, and is replaced atomically, so a kill at any moment costs at most the time since
the last save. `log.jsonl` gains one line an interval. Random numbers come from (seed, step), never from
how often a run was interrupted, nor from how many processes or parts share a batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from dallecli.errors import BadSetting, DalleError, DiskFull, NonFinite
from dallecli.pictures.picture import encode
from dallecli.publish import publish
from dallecli.training.batch import Draw
from dallecli.training.log import Log, sheet_of
from dallecli.training.machine import Machine
from dallecli.training.optimizer import Optimizer
from dallecli.training.state import STATE, Counters, restore, saved_step, write_state

AGREED = 10
"""Processes that train together agree on how far they are once in so many steps; in between they count on it."""

MOST_SAMPLES = 2**24
"""No batch is larger; a larger one is a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """How a network is optimised: by AdamW or Muon, with warm-up, a constant rate, and a linear decay at the end."""

    batch: int
    """Samples a step, of all processes and accumulated parts together."""
    rate: float
    accumulate: int = 1
    """In how many parts, one after the other, a process computes its share of a batch: more parts take less memory."""
    warmup: int = 100
    decay: float = 0.35
    """The share of the budget over which the rate falls to a fiftieth."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    muon: bool = False
    """Whether Muon has the matrices of the network, and AdamW only the rest (`Optimizer`)."""
    clip: float = 1.0
    average: float = 0.998
    """The decay of the weights' average a step, reached after a warm-up of (1 + n) / (10 + n)."""

    def __post_init__(self) -> None:
        for name in ("batch", "rate", "accumulate", "warmup", "decay", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}, expected a number from 0 on")
        if self.batch > MOST_SAMPLES:
            raise ValueError(f"batch is {self.batch}, expected at most {MOST_SAMPLES}")
        for name, value in (("average", self.average), *(("betas", beta) for beta in self.betas)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}, expected a number from 0 up to 1")


class Objective(Protocol):
    """What a run minimises."""

    name: str

    @property
    def module(self) -> nn.Module:
        """All that is trained, and all that is saved."""

    def loss(self, draw: Draw) -> Tensor:
        """Return the mean loss of the samples of a draw."""

    def validate(self) -> dict[str, float]:
        """Return figures on held-out samples. Called with the averaged weights in `module`."""

    def samples(self) -> Tensor | None:
        """Return pictures [n 3 h w] in [-1, 1] that show how far it is, or None. Called likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far a run is.

    name: the objective's. done: the share of the budget that is spent, from 0 to 1. loss: the mean since the last
    report. figures: of the validation, if there was one.
    """

    name: str
    counters: Counters
    done: float
    loss: float
    samples_per_second: float
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Outlets:
    """Where a run says how far it is, and how often, in seconds of training."""

    watch: Callable[[Report], None] | None
    warn: Callable[[str], None]
    log: Log | None
    every: float
    save_every: float
    validate_every: float


class _Loss(nn.Module):
    """An objective's loss as a module, which is what can be shared among processes."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.module = objective.module
        self._loss = objective.loss

    def forward(self, draw: Draw) -> Tensor:
        """Return the mean loss of the samples of a draw."""
        return self._loss(draw)


class TrainingRun:
    """A training run in a folder.

    Args:
        objective: what is minimised; its module's weights are replaced by the saved ones where there are any.
        how: the optimiser's settings.
        folder: where the state lives; created when missing. Processes that train together share it.
        machine: what trains; the module is on its device.
        seed: of every random draw.
        events: a folder for TensorBoard, which it must have been installed for; None: no such log.

    Raises:
        BadFile: the saved state is another network's.
        BadSetting: the batch cannot be shared out equally.
    """

    def __init__(
        self,
        objective: Objective,
        how: Optimisation,
        folder: Path,
        machine: Machine,
        seed: int = 0,
        events: Path | None = None,
    ) -> None:
        self.objective = objective
        self.how = how
        self.folder = folder
        self.machine = machine
        self.device = machine.device
        self.team = machine.team
        self.seed = seed
        self.events = events
        self.counters = Counters()
        self._agreed: float | None = None
        self.parts = parts_of(how, self.team.size, objective.name)
        folder.mkdir(parents=True, exist_ok=True)
        module = objective.module
        machine.suit(module)
        self.names = [name for name, _ in module.named_parameters()]
        self.weights = list(module.parameters())
        self.average = [weight.detach().clone() for weight in self.weights]
        self.optimizer = Optimizer(module, how.muon, how.weight_decay, how.betas)
        if self.state_file.exists():
            self.counters = restore(self.state_file, self.names, self.weights, self.average, self.optimizer)
        self.shared = self.team.share(_Loss(objective))

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
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Train until `budget` seconds of training, or `steps` steps where given, are spent, earlier sessions included.

        The state is saved now and then, at the end, and on any exception, `KeyboardInterrupt` among them, before it is
        passed on. Where the disk is full meanwhile, the state before stays, `warn` says so, and training continues.

        Raises:
            NonFinite: the loss or the weights are no longer numbers. The last state with good ones stays.
            DiskFull, BadOutput: the state at the end cannot be written. The one before stays.
        """
        said = _silent if warn is None else warn
        log = Log(self.folder, self.counters.step, self.events) if self.team.first else None
        try:
            self._train(budget, steps, _Outlets(watch, said, log, every, save_every, validate_every))
        except NonFinite:
            raise
        except BaseException:
            self._try_to_save(said, leaving=True)
            raise
        finally:
            if log is not None:
                log.close()
        try:
            self.save()
        except DiskFull as full:
            hint = f"make room and run the same command again; {self._kept()}"
            raise DiskFull(full.what, full.where, hint) from full
        self.team.wait()

    def _train(self, budget: float, steps: int | None, outlets: _Outlets) -> None:
        counters = self.counters
        spent = counters.seconds
        reported, saved, validated, save_every = spent, spent, spent, outlets.save_every
        losses: list[Tensor] = []
        since = counters.samples
        progress = self._progress(budget, steps)
        while progress < 1:
            start = time.perf_counter()
            losses.append(self._step(progress))
            counters.step += 1
            counters.samples += self.how.batch
            # Reading a loss waits for the device: only now and then.
            if self.device.type == "cpu" or len(losses) % 50 == 0:
                losses[-1].item()
            counters.seconds += time.perf_counter() - start
            progress = self._progress(budget, steps)
            last = progress >= 1
            if counters.seconds - reported >= outlets.every or last:
                loss = self._finite(losses)
                figures = {}
                if counters.seconds - validated >= outlets.validate_every or last:
                    figures = self._validate(outlets)
                    validated = counters.seconds
                speed = (counters.samples - since) / max(counters.seconds - reported, 1e-9)
                report = Report(name=self.objective.name, counters=counters, done=min(progress, 1.0), loss=loss,
                                samples_per_second=speed, figures=figures)  # fmt: skip
                self._report(report, outlets)
                losses, since, reported = [], counters.samples, counters.seconds
            if counters.seconds - saved >= save_every and not last:
                self._finite(losses)
                start = time.perf_counter()
                self._try_to_save(outlets.warn, leaving=False)
                # A large network takes its time: saving may cost a fiftieth of the training.
                save_every = max(save_every, 50 * (time.perf_counter() - start))
                saved = counters.seconds

    def _progress(self, budget: float, steps: int | None) -> float:
        by_time = self.counters.seconds / budget
        if self.team.size > 1 and math.isfinite(budget):
            # No two clocks agree, and all have to stop at the same step.
            if self._agreed is None or self.counters.step % AGREED == 0:
                self._agreed = self.team.agree(by_time)
            by_time = self._agreed
        return by_time if steps is None else max(by_time, self.counters.step / steps)

    def _step(self, progress: float) -> Tensor:
        how, step = self.how, self.counters.step
        rate = how.rate * min(1.0, (step + 1) / how.warmup, max(0.02, (1 - progress) / how.decay))
        total = torch.zeros((), device=self.device)
        for turn in range(how.accumulate):
            part = turn * self.team.size + self.team.rank
            draw = Draw(hash_seed(self.seed, step), how.batch, self.device, part, self.parts)
            if turn + 1 < how.accumulate:
                with self.team.pause(self.shared):
                    total += self._backward(draw)
            else:
                total += self._backward(draw)
        nn.utils.clip_grad_norm_(self.weights, how.clip)
        self.optimizer.step(rate)
        age = step + self.counters.averaged
        decay = min(how.average, (1 + age) / (10 + age))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [w.detach() for w in self.weights], 1 - decay)
        return self.team.mean(total)

    def _backward(self, draw: Draw) -> Tensor:
        half = self.machine.autocast
        with torch.autocast(self.device.type, half, enabled=half is not None):
            loss: Tensor = self.shared(draw) / self.how.accumulate
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch's stubs
        return loss.detach()

    def _finite(self, losses: list[Tensor]) -> float:
        """The mean of some losses; NonFinite if it is none."""
        loss = float(torch.stack(losses).mean()) if losses else 0.0
        if not math.isfinite(loss):
            raise self._diverged("the loss", f"became {loss}")
        return loss

    def _diverged(self, what: str, how: str) -> NonFinite:
        good = "the last good state is kept; continue from it" if self.state_file.exists() else "begin again"
        return NonFinite(
            f"{what} of {self.objective.name} {how} at step {self.counters.step}",
            where=str(self.state_file),
            hint=f"{good} with a smaller rate or a larger batch",
        )

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
        """Write the state, atomically, if this is the process that writes.

        Raises:
            NonFinite: its weights are no longer numbers, in any process. The state before stays.
            DiskFull, BadOutput: it cannot be written.
        """
        if not self._all_finite():
            raise self._diverged("the weights", "hold NaN or infinity")
        if not self.team.first:
            return
        write_state(self.state_file, self.names, self.weights, self.average, self.optimizer, self.counters)

    def settle(self, change: Callable[[], None]) -> None:
        """Make the averaged weights the trained ones, let `change` alter them, and save. Raises as `save`.

        From here on they are the weights that are used.
        """
        with torch.no_grad():
            torch._foreach_copy_([weight.data for weight in self.weights], self.average)
        change()
        self.average = [weight.detach().clone() for weight in self.weights]
        self.save()

    def _all_finite(self) -> bool:
        """Whether everything that a state holds is finite."""
        moments = [moment for weight in self.weights for moment in self.optimizer.moments(weight).values()]
        return all(bool(tensor.isfinite().all()) for tensor in (*self.weights, *self.average, *moments))

    def _try_to_save(self, warn: Callable[[str], None], *, leaving: bool) -> None:
        """Save, or warn; weights that are no longer numbers end the run, unless it is ending already."""
        try:
            self.save()
        except DalleError as problem:
            if isinstance(problem, NonFinite) and not leaving:
                raise
            warn(f"{self.objective.name}: step {self.counters.step} was not saved, {problem.what}; {self._kept()}")

    def _kept(self) -> str:
        if not self.state_file.exists():
            return "no state is kept"
        return f"the state of step {saved_step(self.state_file)} is kept"

    def _validate(self, outlets: _Outlets) -> dict[str, float]:
        """Figures and a sheet of samples, with the averaged weights; nothing where another process does it."""
        log = outlets.log
        if log is None:
            return {}
        step = self.counters.step
        with self.averaged():
            figures = self.objective.validate()
            sheet = sheet_of(self.objective.samples())
        if sheet is not None:
            try:
                publish(self.folder / f"samples-{step:07d}.png", encode(sheet, "png", None), force=True)
                log.show(step, sheet)
            except (DiskFull, OSError) as problem:
                outlets.warn(f"{self.objective.name}: the samples of step {step} were not written, {problem}")
        return figures

    def _report(self, report: Report, outlets: _Outlets) -> None:
        log = outlets.log
        if log is None:
            return
        counters = report.counters
        figures = {
            "samples": counters.samples,
            "seconds": round(counters.seconds, 1),
            "loss": round(report.loss, 5),
            "samples_per_second": round(report.samples_per_second, 1),
            **{key: round(value, 5) for key, value in report.figures.items()},
        }
        try:
            log.add(counters.step, figures)
        except OSError as problem:
            outlets.warn(f"{report.name}: the log of step {counters.step} was not written, {problem.strerror}")
        if outlets.watch is not None:
            outlets.watch(report)


def parts_of(how: Optimisation, processes: int, name: str) -> int:
    """Return in how many parts the batch of a run called `name` is computed. Raises BadSetting if they differ."""
    parts = how.accumulate * processes
    if how.batch % parts:
        raise BadSetting(
            f"a batch of {how.batch} cannot be cut into {parts} equal parts",
            where=name,
            hint=f"{processes} processes, each in {how.accumulate} parts: choose a multiple of {parts}",
        )
    return parts


def _silent(_: str) -> None:
    """Warnings that nobody asked for."""


def hash_seed(seed: int, step: int) -> int:
    """Return a 63-bit seed that differs for every (seed, step): the SplitMix64 finaliser."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) >> 1
