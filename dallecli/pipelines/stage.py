"""One diffusion stage of a pipeline, with its conditions bound: run forwards or backwards, and checked for overflow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from dallecli.diffusion.classifier import led
from dallecli.diffusion.denoiser import Denoiser, Guess, make_denoiser
from dallecli.diffusion.guidance import OFF, Predict
from dallecli.diffusion.inpaint import Known, resampled
from dallecli.diffusion.inversion import invert
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS, ddim
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.errors import BadSteps
from dallecli.nets.conditions import Place
from dallecli.nets.deep_features import DeepFeatures
from dallecli.pipelines.allocator import keep_freed
from dallecli.pipelines.given import Beginning, Hole
from dallecli.pipelines.graphs import Graphs, Net
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.watch import Look, Watch
from dallecli.tasks.stages import INVERSION, DiffusionSettings

Show = Callable[[Tensor], Sequence[Image.Image]]
"""Makes pictures of clean samples."""

Nets = tuple[Net, Net | None]
"""The network of a stage, and the one of its last step if that is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the networks of a stage are bound to."""

    dtype: torch.dtype
    """The type in which they compute."""
    ts: Sequence[int]
    """The different timesteps, in the order of the steps."""
    paired: bool
    """Whether guidance is on in any step: conditions are paired then (see guidance.py). A step in which it is off gives
    the networks half as many samples, to which the last rows of every condition belong."""
    deep: DeepFeatures | None
    """Of steps that reuse what others computed; None where no step does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diffusion:
    """A diffusion stage with its conditions."""

    stage: str
    """Its name."""
    shape: tuple[int, ...]
    """Of one sample, without the batch."""
    schedule: Schedule
    guided: bool = True
    """Whether guidance leads anywhere; if not, it is off."""
    known: Callable[[Tensor], Tensor] | None = None
    """Takes every clean sample that is predicted, and returns it with the part that is known; None if none is."""
    nets: Callable[[Run], Nets]
    """Binds its networks for a run."""
    show: Show | None = None
    """Makes pictures of clean samples [b *shape], for progress; None where there is nothing to see, or no room."""
    lead: Callable[[Run], Net] | None = None
    """Binds the classifier whose gradient leads the samples, in the same way; None where none leads. What it gives is
    already times the scale."""

    def steps(self, settings: DiffusionSettings) -> list[Step]:
        """The steps of a run. Raises BadSteps if the schedule cannot be run so."""
        try:
            return self.schedule.steps(settings.steps, settings.sampler)
        except ValueError as problem:
            raise BadSteps(str(problem), where=self.stage) from problem

    def denoiser(
        self,
        settings: DiffusionSettings,
        dtype: torch.dtype,
        steps: Sequence[Step],
        healthy: Tensor,
        graphs: Graphs,
    ) -> Denoiser:
        """A denoiser for `steps`; it clears the flag in `healthy` [b] of each picture for which a network overflows."""
        ts = list(dict.fromkeys(step.t for step in steps))
        places = {t: place for place, t in enumerate(ts)}
        scale = settings.guidance if self.guided else OFF
        deep = DeepFeatures() if settings.reuse > 1 else None
        run = Run(dtype=dtype, ts=ts, paired=scale != OFF, deep=deep)

        def graphed(net: Net) -> Net:
            return graphs.of(net, len(ts))

        def checked(net: Net) -> Predict:
            def predict(x: Tensor, step: Step) -> Tensor:
                output = net(x, places[step.t])
                # A sum is finite only if all its terms are. Checked here, because clipping would hide an infinity, and
                # kept on the device: the only wait is at the end of the stage.
                total = output.flatten(1).sum(dim=1, dtype=torch.float32)
                healthy.logical_and_(total.isfinite().view(-1, len(healthy)).all(dim=0))
                return output

            return predict

        def guides(step: Step) -> bool:
            return settings.guides(self.schedule.behind(step))

        def made(bind: Callable[[], Net]) -> Denoiser:
            alone = make_denoiser(checked(bind()), self.schedule, OFF, self.known)
            if scale == OFF:
                return alone
            # Bound once more: a graph is of one number of samples.
            return _switched(guides, make_denoiser(checked(bind()), self.schedule, scale, self.known), alone)

        net, last = self.nets(run)
        pace = _Pace(settings.reuse)
        denoise = made(lambda: graphed(net) if deep is None else pace.of(net, deep, graphed))
        if last is not None:
            denoise = _switched(lambda step: step.t_prev < 0, made(lambda: graphed(last)), denoise)
        if self.lead is not None:
            denoise = _switched(guides, led(denoise, checked(self.lead(run))), denoise)
        return denoise


class _Pace:
    """Which steps of a run compute all of a network: one of `reuse`, and every one with other samples than the last."""

    def __init__(self, reuse: int) -> None:
        self._reuse = reuse
        self._left = 0
        self._rows = 0

    def of(self, net: Net, deep: DeepFeatures, graphed: Callable[[Net], Net]) -> Net:
        """A network whose steps are so paced; `graphed` makes a graph of those that are alike."""

        def bound(fresh: bool) -> Net:
            def told(x: Tensor, place: Place) -> Tensor:
                deep.fresh = fresh
                return net(x, place)

            return graphed(told)

        whole, uppermost = bound(True), bound(False)
        return lambda x, place: (whole if self._is_fresh(len(x)) else uppermost)(x, place)

    def _is_fresh(self, rows: int) -> bool:
        fresh = self._left == 0 or rows != self._rows
        self._left = self._reuse - 1 if fresh else self._left - 1
        self._rows = rows
        return fresh


def precise(dtype: torch.dtype) -> torch.dtype:
    """The type in which samplers compute while networks compute in `dtype`: 1 / sqrt(alpha_bar) goes up to 20000."""
    return torch.promote_types(dtype, torch.float32)


def sample(
    parts: Parts,
    diffusion: Diffusion,
    settings: DiffusionSettings,
    noise: Noise,
    watch: Watch,
    start: Tensor | None = None,
    eta: float | None = None,
    hole: Hole | None = None,
    beginning: Beginning | None = None,
) -> Tensor:
    """Run a stage from noise to a sample [b *shape].

    `start` [b *shape] is its x_T, drawn if not given; `eta` is DDIM's, and for no other sampler. `hole` and `beginning`
    are of the stage's own shape. With a `beginning` only the last steps are taken, from it under the noise of `start`.
    """
    steps = diffusion.steps(settings)
    if beginning is not None:
        steps = steps[beginning.first(len(steps)) :]
    if hole is not None:
        steps = resampled(steps, hole.resample)
    sampler = SAMPLERS[settings.sampler] if eta is None else partial(ddim, eta=eta)

    def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        healthy = torch.ones(len(noise), dtype=torch.bool, device=parts.device)
        denoise = diffusion.denoiser(settings, dtype, steps, healthy, parts.graphs)
        if beginning is not None:
            x = beginning.under_noise(steps[0], noise, start)
        elif start is not None:
            x = start.to(parts.device)
        else:
            x = noise.draw(diffusion.shape, parts.device)
        x = x.to(precise(dtype))
        constrained = sampler
        if hole is not None:
            held = hole.held.to(x.dtype) if hole.held is not None else None
            known = Known(hole.pixels.to(x.dtype), hole.unknown, steps, noise, held, hole.clean)
            x = known.begun(x)
            constrained = partial(sampler, constrain=known)
        looks = Looks(denoise, _around(hole, diffusion.show))
        progress = partial(_finish_step, watch, diffusion.stage, len(steps), looks)
        return constrained(looks.denoise, x, steps, noise, progress), healthy

    return parts.finite(diffusion.stage, noise, run)


def unsample(
    parts: Parts, diffusion: Diffusion, x0: Tensor, settings: DiffusionSettings, noise: Noise, watch: Watch
) -> Tensor:
    """Run a stage backwards, from a sample `x0` [b *shape] to the noise from which "ddim" makes it."""
    steps = diffusion.steps(settings)

    def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        healthy = torch.ones(len(noise), dtype=torch.bool, device=parts.device)
        denoise = diffusion.denoiser(settings, dtype, steps, healthy, parts.graphs)
        progress = partial(_finish_step, watch, INVERSION, len(steps), None)
        return invert(denoise, x0.to(parts.device, precise(dtype)), steps, noise, progress), healthy

    return parts.finite(INVERSION, noise, run)


class Looks:
    """Lets somebody look at a run: it keeps the last clean sample that its denoiser predicted."""

    def __init__(self, denoise: Denoiser, show: Show | None) -> None:
        self._denoise = denoise
        self._show = show
        self._x0: Tensor | None = None

    def denoise(self, x: Tensor, step: Step) -> Guess:
        guess = self._denoise(x, step)
        self._x0 = guess.x0
        return guess

    @property
    def now(self) -> Look | None:
        """Shows the sample that is there now, if it is asked."""
        show, x0 = self._show, self._x0
        return None if show is None or x0 is None else lambda: show(x0)


def _around(hole: Hole | None, show: Show | None) -> Show | None:
    """Shows clean samples with what is known around a hole: the network's own idea of that is not what comes out."""
    if hole is None or show is None:
        return show
    return lambda x0: show(torch.where(hole.unknown, x0, hole.pixels.to(x0.dtype)))


def _finish_step(watch: Watch, stage: str, steps: int, looks: Looks | None, done: int) -> None:
    if done == 1:
        keep_freed()  # the first step has put the weights where they stay
    look = looks.now if looks is not None else None
    watch(stage, done, steps) if look is None else watch(stage, done, steps, look)


def _switched(choose: Callable[[Step], bool], chosen: Denoiser, other: Denoiser) -> Denoiser:
    def switched(x: Tensor, step: Step) -> Guess:
        return chosen(x, step) if choose(step) else other(x, step)

    return switched
