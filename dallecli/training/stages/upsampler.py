"""The stage that trains an upsampler: from noise to a picture four times as large as the one it is given.

Ramesh et al. 2022, section 2.1: unconditional but for the low-resolution picture, which is corrupted a little, because
at run time it comes from a network and not from a camera. Trained on crops where `crop` is smaller than the picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import ancestral
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.nets.layers import channels_last
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.training.batch import Draw, choose, take
from dallecli.training.corruption import Corrupt, added_noise, bsr, paper_blur
from dallecli.training.dataset import Examples
from dallecli.training.loop import TrainingRun
from dallecli.training.loss import expected, weights
from dallecli.training.stages.decoder import DecoderParts
from dallecli.training.stages.overpainting import Overpainter, PaintOver
from dallecli.training.stages.stage import Material, trained_schedule

CORRUPTIONS: Final = ("noise", "blur", "bsr", "none")
CROP: Final = 64
"""The side in pixels of the crops, or a quarter of the pictures' where that is more (the paper's share)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsamplerLesson:
    """How an upsampler is taught.

    corruption: what is done to the small pictures (corruption.py); the paper has "blur" for the first upsampler and
    "bsr" for the second. noise: the largest deviation of the noise where it is "noise", in units of [-1, 1] pixels:
    as wrong as the stage before is. painted: the share of small pictures that the decoder paints over first, so that
    the upsampler learns from what it will be given; of the first one only, which is then trained after the decoder.
    """

    corruption: str = "blur"
    noise: float = 0.1
    painted: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.painted <= 1:
            raise ValueError(f"painted is {self.painted}, expected a share from 0 to 1")
        if self.corruption not in CORRUPTIONS:
            raise ValueError(f"corruption is {self.corruption!r}, supported is {', '.join(CORRUPTIONS)}")

    @property
    def corrupt(self) -> Corrupt:
        """The corruption itself."""
        if self.corruption == "noise":
            return added_noise(self.noise)
        return {"blur": paper_blur, "bsr": bsr, "none": _unchanged}[self.corruption]


def _unchanged(low: Tensor, much: Tensor, draw: Draw) -> Tensor:
    return low


def enlarge(low: Tensor, size: int) -> Tensor:
    """Return `low` [b 3 l l] enlarged to [b 3 size size] as the pipeline does it: bicubic, antialiased, in float32."""
    return F.interpolate(low.float(), size=(size, size), mode="bicubic", align_corners=False, antialias=True)


class UpsamplerObjective:
    """The weighted error of the predicted clean picture (or of what else the schedule says is predicted)."""

    def __init__(
        self,
        name: str,
        net: UNet,
        schedule: Schedule,
        examples: Examples,
        low: int,
        lesson: UpsamplerLesson,
        paint_over: PaintOver | None = None,
    ) -> None:
        """Train on crops of pictures against their box averages at `low` px, but for the held-out pictures.

        `paint_over` says what the decoder makes of small pictures, where the lesson has any `painted`; pictures are
        then not cropped.
        """
        size = examples.pictures.shape[-1]
        self.name = name
        self.module = channels_last(net)
        self.net = net
        self.schedule = schedule
        self.alpha_bars = schedule.alpha_bars.to(net.conv_out.weight.device)
        self.pictures = examples.pictures
        self.factor = size // low
        self.crop = min(size, max(CROP, size // 4))
        self.corrupt = lesson.corrupt
        self.painted = lesson.painted
        self.paint_over = paint_over
        self.count = len(examples.pictures) - examples.held_out
        self.emphasis = examples.emphasis

    def loss(self, draw: Draw) -> Tensor:
        """Return the weighted error at random timesteps, on random crops."""
        return self._loss(choose(self.count, draw, self.emphasis), draw)

    def _loss(self, chosen: Tensor, draw: Draw) -> Tensor:
        t = draw.timesteps(len(self.alpha_bars))
        much = draw.uniform(1, 1, 1)
        weight = weights(self.schedule.prediction_type, self.alpha_bars[t])
        return (weight * self._error(self._crops(chosen, draw), t, self._spoiling(chosen), much, draw)).mean()

    def _spoiling(self, chosen: Tensor) -> Corrupt:
        """What is done to the small pictures of the samples `chosen` [b]."""
        paint_over = self.paint_over
        if paint_over is None:
            return self.corrupt

        def spoil(low: Tensor, much: Tensor, draw: Draw) -> Tensor:
            painted = (draw.uniform() < self.painted)[:, None, None, None]
            return self.corrupt(torch.where(painted, paint_over(chosen, low, draw), low), much, draw)

        return spoil

    def _crops(self, chosen: Tensor, draw: Draw) -> Tensor:
        high = take(self.pictures, chosen)
        room = (high.shape[-1] - self.crop) // self.factor
        if room == 0:
            return high
        # Corners on the low-resolution grid, so that a crop's average is the average's crop.
        corners = self.factor * draw.integers(room + 1, 2)
        cut = [p[:, y : y + self.crop, x : x + self.crop] for p, (y, x) in zip(high, corners.tolist(), strict=True)]
        return torch.stack(cut)

    def _error(self, high: Tensor, t: Tensor, corrupt: Corrupt, much: Tensor, draw: Draw) -> Tensor:
        x0 = (high.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        low = corrupt(F.avg_pool2d(x0, self.factor), much, draw)
        noise = draw.normal(*x0.shape[1:])
        alpha_bar = self.alpha_bars[t][:, None, None, None]
        x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        predicted = self.net(torch.cat([x, enlarge(low, x0.shape[-1])], dim=1), t)[:, :3]
        wanted = expected(self.schedule.prediction_type, x0, noise, alpha_bar)
        return F.mse_loss(predicted.float(), wanted, reduction="none").mean(dim=(1, 2, 3))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the held-out loss, and the held-out error on whole, uncorrupted pictures at three noise levels."""
        figures = {"held_out": self._held_out(0, self._loss)}
        for level in (990, 750, 400):

            def error(chosen: Tensor, draw: Draw, level: int = level) -> Tensor:
                t = torch.full((len(chosen),), level, device=draw.device)
                return self._error(take(self.pictures, chosen), t, _unchanged, torch.zeros(()), draw).mean()

            figures[f"mse_{level}"] = self._held_out(level, error)
        return figures

    def _held_out(self, seed: int, of: Callable[[Tensor, Draw], Tensor]) -> float:
        """The mean of a figure over 32 held-out pictures, eight at a time: the last upsampler's are large."""
        device = self.alpha_bars.device
        chosen = torch.arange(self.count, len(self.pictures), device=device)[:32]
        total = 0.0
        for place, part in enumerate(torch.split(chosen, 8)):
            total += len(part) * float(of(part, Draw(seed + 1000 * place, len(part), device)))
        return total / len(chosen)

    @torch.no_grad()
    def samples(self, steps: int = 7) -> Tensor:
        """Return 9 held-out pictures, painted again from their low-resolution versions."""
        device = self.alpha_bars.device
        high = self.pictures[self.count :][:9].to(device).float() / 127.5 - 1
        low = enlarge(F.avg_pool2d(high, self.factor), high.shape[-1])

        def predict(x: Tensor, step: Step) -> Tensor:
            t = torch.full((), step.t, device=device)
            out: Tensor = self.net(torch.cat([x, low], dim=1), t)
            return out

        noise = Noise(range(len(high)))
        x = noise.draw(high.shape[1:], high.device)
        return ancestral(make_denoiser(predict, self.schedule), x, self.schedule.steps(steps), noise, lambda _: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsamplerStage:
    """An upsampler from its config and its scheduler's.

    number: 1 for the first one, behind the decoder, 2 for the one behind that. low: the side in pixels of the pictures
    that it enlarges.
    """

    number: int
    low: int
    unet: dict[str, Any]
    scheduler: dict[str, Any]
    decoder_scheduler: dict[str, Any]
    lesson: UpsamplerLesson
    optional: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Its name, with its number from the second one on."""
        return numbered("upsampler", self.number)

    @property
    def seed(self) -> int:
        """Its seed, behind the decoder's."""
        return 3 + self.number

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing, unless it learns from what the decoder paints."""
        return ("clip", "decoder") if self.lesson.painted else ()

    @property
    def part(self) -> str:
        """What its parts are called in Karlo's layout."""
        return numbered("super_res", self.number)

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The network twice, since Karlo's layout has one of its own for the last step, and the scheduler."""
        networks = {f"{self.part}_{which}": self.unet for which in ("first", "last")}
        return {**networks, f"{self.part}_scheduler": self.scheduler}

    def fresh(self) -> UNet:
        """Return the network with fresh weights."""
        return UNet(UNetConfig.from_config(self.unet))

    def networks(self, module: UNet) -> dict[str, nn.Module]:
        """Return the network for the last step and for all others, which here is the same one."""
        return {f"{self.part}_{which}": module for which in ("first", "last")}

    def objective(self, module: UNet, material: Material) -> UpsamplerObjective:
        """Return what the upsampler minimises."""
        schedule = trained_schedule(self.scheduler, f"{self.part}_scheduler")
        examples = material.dataset.examples(self.name, self.unet["sample_size"])
        paint_over = self._overpainter(material) if self.lesson.painted else None
        return UpsamplerObjective(self.name, module, schedule, examples, self.low, self.lesson, paint_over)

    def _overpainter(self, material: Material) -> Overpainter:
        decoder = material.trained("decoder")
        assert isinstance(decoder, DecoderParts)  # for the type checker
        schedule = trained_schedule(self.decoder_scheduler, "decoder_scheduler")
        return Overpainter(decoder, schedule, material.conditions().images, material.conditions().captions)

    def adapt(self, module: UNet, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""


def numbered(name: str, number: int) -> str:
    """Return a name of an upsampler or its parts: the first has no number, the second is `_2`."""
    return name if number == 1 else f"{name}_{number}"
