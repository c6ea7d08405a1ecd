"""One diffusion stage of a pipeline, with its conditions bound: run forwards or backwards, and checked for overflow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from dallecli.diffusion.classifier import led
from dallecli.diffusion.denoiser import Denoiser, Guess, make_denoiser
from dallecli.diffusion.guidance import Predict
from dallecli.diffusion.inpaint import Known, resampled
from dallecli.diffusion.inversion import invert
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS, ddim
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.errors import BadSteps
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
class Diffusion:
    """A diffusion stage with its conditions, which are paired unless guidance is 1."""

    stage: str
    """Its name."""
    shape: tuple[int, ...]
    """Of one sample, without the batch."""
    schedule: Schedule
    guidance: float
    known: Callable[[Tensor], Tensor] | None = None
    """Takes every clean sample that is predicted, and returns it with the part that is known; None if none is."""
    nets: Callable[[torch.dtype, Sequence[int]], Nets]
    """Binds its networks in a floating-point type, for the different timesteps of a run in their order."""
    show: Show | None = None
    """Makes pictures of clean samples [b *shape], for progress; None where there is nothing to see, or no room."""
    lead: Callable[[torch.dtype, Sequence[int]], Net] | None = None
    """Binds the classifier whose gradient leads the samples, in the same way; None where none leads. What it gives is
    already times the scale."""

    def steps(self, settings: DiffusionSettings) -> list[Step]:
        """The steps of a run. Raises BadSteps if the schedule cannot be run so."""
        try:
            return self.schedule.steps(settings.steps, settings.sampler)
        except ValueError as problem:
            raise BadSteps(str(problem), where=self.stage) from problem

    def denoiser(self, dtype: torch.dtype, steps: Sequence[Step], healthy: Tensor, graphs: Graphs) -> Denoiser:
        """A denoiser for `steps`; it clears the flag in `healthy` [b] of each picture for which a network overflows."""
        ts = list(dict.fromkeys(step.t for step in steps))
        places = {t: place for place, t in enumerate(ts)}

        def checked(net: Net, *, graphed: bool = True) -> Predict:
            net = graphs.of(net, len(ts)) if graphed else net

            def run(x: Tensor, step: Step) -> Tensor:
                output = net(x, places[step.t])
                # A sum is finite only if all its terms are. Checked here, because clipping would hide an infinity, and
                # kept on the device: the only wait is at the end of the stage.
                total = output.flatten(1).sum(dim=1, dtype=torch.float32)
                healthy.logical_and_(total.isfinite().view(-1, len(healthy)).all(dim=0))
                return output

            return run

        net, last = self.nets(dtype, ts)
        denoise = make_denoiser(checked(net), self.schedule, self.guidance, self.known)
        if last is not None:
            denoise = _switched(denoise, make_denoiser(checked(last), self.schedule, self.guidance, self.known))
        return denoise if self.lead is None else led(denoise, checked(self.lead(dtype, ts), graphed=False))


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
        denoise = diffusion.denoiser(dtype, steps, healthy, parts.graphs)
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
        denoise = diffusion.denoiser(dtype, steps, healthy, parts.graphs)
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


def _switched(denoise: Denoiser, last: Denoiser) -> Denoiser:
    def switched(x: Tensor, step: Step) -> Guess:
        return last(x, step) if step.t_prev < 0 else denoise(x, step)

    return switched
