"""Training an upsampler: from noise to a picture four times as large as the one it is given.

Ramesh et al. 2022, section 2.1: unconditional but for the low-resolution picture, which is corrupted a little, because
at run time it comes from a network and not from a camera. Trained on crops where `crop` is smaller than the picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import ancestral
from dallecli.diffusion.schedule import Schedule
from dallecli.nets.unet import UNet
from dallecli.training.prior import stratified


def enlarge(low: Tensor, size: int) -> Tensor:
    """Return `low` [b 3 l l] enlarged to [b 3 size size] as the pipeline does it: bicubic, antialiased, in float32."""
    return F.interpolate(low.float(), size=(size, size), mode="bicubic", align_corners=False, antialias=True)


class UpsamplerObjective:
    """The weighted error of the predicted clean picture."""

    def __init__(
        self,
        name: str,
        net: UNet,
        schedule: Schedule,
        pictures: Tensor,
        low: int,
        crop: int,
        corruption: float,
        held_out: int,
    ) -> None:
        """Train on uint8 `pictures` [n 3 s s] against their box averages at `low` px, on crops of `crop` px.

        `corruption` is the largest deviation of the noise on the low-resolution picture, in units of [-1, 1] pixels.
        The last `held_out` pictures validate.
        """
        self.name = name
        self.module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        self.net = net
        self.schedule = schedule
        self.alpha_bars = schedule.alpha_bars.to(pictures.device)
        self.pictures = pictures
        self.factor = pictures.shape[-1] // low
        self.crop = crop
        self.corruption = corruption
        self.count = len(pictures) - held_out

    def loss(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the weighted error at random timesteps, on random crops."""
        device = self.pictures.device
        chosen = torch.randint(self.count, (batch,), generator=generator, device=device)
        t = stratified(batch, len(self.alpha_bars), generator)
        corruption = self.corruption * torch.rand((batch, 1, 1, 1), generator=generator, device=device)
        alpha_bar = self.alpha_bars[t]
        weight = (alpha_bar / (1 - alpha_bar) + 1).clamp(max=5)
        return (weight * self._error(self._crops(chosen, generator), t, corruption, generator)).mean()

    def _crops(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        high = self.pictures[chosen]
        room = (high.shape[-1] - self.crop) // self.factor
        if room == 0:
            return high
        # Corners on the low-resolution grid, so that a crop's average is the average's crop.
        corners = self.factor * torch.randint(room + 1, (len(chosen), 2), generator=generator, device=high.device)
        cut = [p[:, y : y + self.crop, x : x + self.crop] for p, (y, x) in zip(high, corners.tolist(), strict=True)]
        return torch.stack(cut)

    def _error(self, high: Tensor, t: Tensor, corruption: Tensor, generator: torch.Generator) -> Tensor:
        x0 = (high.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        low = F.avg_pool2d(x0, self.factor)
        low = low + corruption * torch.randn(low.shape, generator=generator, device=low.device)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        alpha_bar = self.alpha_bars[t][:, None, None, None]
        x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        predicted = self.net(torch.cat([x, enlarge(low, x0.shape[-1])], dim=1), t)
        return F.mse_loss(predicted.float(), x0, reduction="none").mean(dim=(1, 2, 3))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the held-out error on whole pictures at three noise levels."""
        device = self.pictures.device
        chosen = torch.arange(self.count, len(self.pictures), device=device)[:32]
        none = torch.zeros((), device=device)
        figures = {}
        for level in (990, 750, 400):
            generator = torch.Generator(device).manual_seed(level)
            errors = [
                self._error(self.pictures[part], torch.full((len(part),), level, device=device), none, generator)
                for part in torch.split(chosen, 8)
            ]
            figures[f"mse_{level}"] = float(torch.cat(errors).mean())
        return figures

    @torch.no_grad()
    def samples(self, steps: int = 7) -> Tensor:
        """Return 9 held-out pictures, painted again from their low-resolution versions."""
        high = self.pictures[self.count :][:9].float() / 127.5 - 1
        low = enlarge(F.avg_pool2d(high, self.factor), high.shape[-1])

        def predict(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self.net(torch.cat([x, low], dim=1), t)
            return out

        noise = Noise(range(len(high)))
        x = noise.draw(high.shape[1:], high.device)
        return ancestral(make_denoiser(predict, self.schedule), x, self.schedule.steps(steps), noise, lambda _: None)
