"""Training the decoder: from noise to a small picture, given an image embedding and a caption.

Ramesh et al. 2022, section 2.1, with the recipe that two studies of this starter arrived at: the network predicts the
clean picture, errors are weighted by min(SNR + 1, 5) (Hang et al. 2023), timesteps lean to the noisy end, where it is
decided what is painted and where, and the embedding is perturbed, because the prior's will not be exact either.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.guidance import pair
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import ancestral
from dallecli.diffusion.schedule import Schedule
from dallecli.nets.text_proj import Conditioning, TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.training.prior import stratified
from dallecli.training.states import Captions

BOTH_DROP, TEXT_DROP, IMAGE_DROP = 0.08, 0.10, 0.04
"""Shares of samples that are trained without any condition (for guidance), without text, without an embedding."""
EMBEDDING_NOISE = 0.25
"""The largest perturbation of an image embedding, in standard deviations."""
NOISY_LEAN = 0.65
"""The power of `stratified`."""
CORE_SHARE = 0.3
"""The share of samples that are drawn from the core of the pool alone."""


class DecoderParts(nn.Module):
    """The UNet and the projection that conditions it, which are trained together."""

    def __init__(self, text_proj: TextProjConfig, decoder: UNetConfig) -> None:
        super().__init__()
        self.text_proj = UnCLIPTextProjModel(text_proj)
        self.decoder = UNet(decoder)
        # Karlo's layout has the network place the variance, too. So few samples would leave that half-trained, and
        # the sampler overflows; the constant -1 chooses the posterior's own variance, right for few steps.
        with torch.no_grad():
            self.decoder.conv_out.weight[3:] = 0
            assert self.decoder.conv_out.bias is not None  # for the type checker
            self.decoder.conv_out.bias[3:] = -1
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs


class DecoderObjective:
    """The weighted error of the predicted clean picture."""

    name = "decoder"

    def __init__(
        self,
        parts: DecoderParts,
        schedule: Schedule,
        pictures: Tensor,
        embeddings: Tensor,
        captions: Captions,
        held_out: int,
        core: Tensor,
    ) -> None:
        """Train on uint8 `pictures` [n 3 s s], their `embeddings` [n d] and `captions`, but for the last `held_out`.

        `core` holds the indices of the samples that matter most, and are drawn more often.
        """
        self.module = parts
        self.parts = parts
        self.schedule = schedule
        self.alpha_bars = schedule.alpha_bars.to(pictures.device)
        self.pictures = pictures
        self.embeddings = embeddings
        self.spread = embeddings.std(dim=0)
        self.captions = captions
        self.count = len(pictures) - held_out
        self.core = core

    def loss(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the weighted error at random timesteps."""
        device = self.pictures.device
        chosen = torch.randint(self.count, (batch,), generator=generator, device=device)
        among = self.core[torch.randint(len(self.core), (batch,), generator=generator, device=device)]
        chosen = torch.where(torch.rand(batch, generator=generator, device=device) < CORE_SHARE, among, chosen)
        t = stratified(batch, len(self.alpha_bars), generator, NOISY_LEAN)
        lot = torch.rand(batch, generator=generator, device=device)
        no_text = lot < BOTH_DROP + TEXT_DROP
        no_image = (lot < BOTH_DROP) | (lot > 1 - IMAGE_DROP)
        alpha_bar = self.alpha_bars[t]
        weight = (alpha_bar / (1 - alpha_bar) + 1).clamp(max=5)
        return (weight * self._error(chosen, t, no_text, no_image, EMBEDDING_NOISE, generator)).mean()

    def _condition(
        self, chosen: Tensor, image: Tensor, no_text: Tensor, no_image: Tensor
    ) -> tuple[Conditioning, Tensor]:
        nothing = self.parts.text_proj.learned_classifier_free_guidance_embeddings
        image = torch.where(no_image[:, None], nothing, image)
        text = self.captions.states(chosen, no_text, trim=True)
        mask = F.pad(text.mask, (self.parts.text_proj.config.clip_extra_context_tokens, 0), value=True)
        return self.parts.text_proj(image, text.embedding, text.hidden), mask

    def _error(
        self,
        chosen: Tensor,
        t: Tensor,
        no_text: Tensor,
        no_image: Tensor,
        perturbation: float,
        generator: torch.Generator,
    ) -> Tensor:
        device = self.pictures.device
        x0 = (self.pictures[chosen].float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        alpha_bar = self.alpha_bars[t][:, None, None, None]
        x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        image = self.embeddings[chosen]
        size = perturbation * torch.rand((len(chosen), 1), generator=generator, device=device)
        image = image + size * self.spread * torch.randn(image.shape, generator=generator, device=device)
        condition, mask = self._condition(chosen, image, no_text, no_image)
        predicted = self.parts.decoder(x, t, condition.context, condition.time, mask)[:, :3]
        return F.mse_loss(predicted.float(), x0, reduction="none").mean(dim=(1, 2, 3))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the held-out error at six noise levels, with every condition given."""
        device = self.pictures.device
        chosen = torch.arange(self.count, len(self.pictures), device=device)[:256]
        keep = torch.zeros(len(chosen), dtype=torch.bool, device=device)
        figures = {}
        for level in (990, 900, 750, 600, 400, 150):
            generator = torch.Generator(device).manual_seed(level)
            t = torch.full((len(chosen),), level, device=device)
            figures[f"mse_{level}"] = float(self._error(chosen, t, keep, keep, 0.0, generator).mean())
        return figures

    @torch.no_grad()
    def samples(self, guidance: float = 2.0, steps: int = 25) -> Tensor:
        """Return 16 pictures painted from held-out captions and their true embeddings."""
        device = self.pictures.device
        chosen = torch.arange(self.count, len(self.pictures), device=device)[:16]
        count = len(chosen)
        drop = torch.arange(2 * count, device=device) < count
        twice = pair(chosen, chosen)
        condition, mask = self._condition(twice, self.embeddings[twice], drop, drop)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self.parts.decoder(x, t, condition.context, condition.time, mask)
            return out

        noise = Noise(range(count))
        x = noise.draw(self.pictures.shape[1:], device)
        denoise = make_denoiser(predict, self.schedule, guidance)
        return ancestral(denoise, x, self.schedule.steps(steps), noise, lambda _: None)
