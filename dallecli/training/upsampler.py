"""Training an upsampler: from noise to a picture four times as large as the one it is given.

Ramesh et al. 2022, section 2.1: unconditional but for the low-resolution picture, which is corrupted a little, because
at run time it comes from a network and not from a camera. Trained on crops where `crop` is smaller than the picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import ancestral
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.nets.layers import channels_last
from dallecli.nets.unet import UNet
from dallecli.training.batch import Draw, Emphasis, choose, take
from dallecli.training.corruption import Corrupt, added_noise, bsr, paper_blur
from dallecli.training.loss import expected, weights

CORRUPTIONS: Final = ("noise", "blur", "bsr", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsamplerRecipe:
    """What a lesson of an upsampler is like.

    corruption: what is done to the small pictures (corruption.py); the paper has "blur" for the first upsampler and
    "bsr" for the second. noise: the largest deviation of the noise where it is "noise", in units of [-1, 1] pixels:
    as wrong as the stage before is.
    """

    corruption: str = "blur"
    noise: float = 0.1

    def __post_init__(self) -> None:
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
        pictures: Tensor,
        low: int,
        crop: int,
        recipe: UpsamplerRecipe,
        held_out: int,
        emphasis: Emphasis | None = None,
    ) -> None:
        """Train on uint8 `pictures` [n 3 s s] against their box averages at `low` px, on crops of `crop` px.

        The last `held_out` pictures validate.
        """
        self.name = name
        self.module = channels_last(net)
        self.net = net
        self.schedule = schedule
        self.alpha_bars = schedule.alpha_bars.to(net.conv_out.weight.device)
        self.pictures = pictures
        self.factor = pictures.shape[-1] // low
        self.crop = crop
        self.corrupt = recipe.corrupt
        self.count = len(pictures) - held_out
        self.emphasis = emphasis

    def loss(self, draw: Draw) -> Tensor:
        """Return the weighted error at random timesteps, on random crops."""
        return self._loss(choose(self.count, draw, self.emphasis), draw)

    def _loss(self, chosen: Tensor, draw: Draw) -> Tensor:
        t = draw.timesteps(len(self.alpha_bars))
        much = draw.uniform(1, 1, 1)
        weight = weights(self.schedule.prediction_type, self.alpha_bars[t])
        return (weight * self._error(self._crops(chosen, draw), t, self.corrupt, much, draw)).mean()

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
