"""The stage that trains the decoder: from noise to a small picture, given an image embedding and a caption.

Ramesh et al. 2022, section 2.1, with what two studies of this starter arrived at: the network predicts the
clean picture, errors are weighted by signal-to-noise ratio (`loss.weights`), timesteps lean to the noisy end, where it
is decided what is painted and where, and the embedding is perturbed, because the prior's will not be exact either.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.guidance import pair
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import ancestral
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.nets.layers import channels_last
from dallecli.nets.text_proj import Conditioning, TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.training.batch import Draw, choose, take
from dallecli.training.conditions import Conditions, deviations
from dallecli.training.dataset import Examples
from dallecli.training.loop import TrainingRun
from dallecli.training.loss import expected, weights
from dallecli.training.stages.cell_tokens import look_at_own_tokens
from dallecli.training.stages.stage import Material, trained_schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLesson:
    """How the decoder is taught; the defaults are the paper's.

    caption_dropout, embedding_dropout: shares of samples that are trained without their caption, without their image
    embedding; both_dropout: the share without either, which is what guidance needs, counted in both of them. None: as
    often as the two meet by chance. embedding_noise: the largest perturbation of an embedding, in standard deviations.
    lean: the power of `Draw.timesteps`; 1 is an even choice.
    """

    caption_dropout: float = 0.5
    embedding_dropout: float = 0.1
    both_dropout: float | None = None
    embedding_noise: float = 0.0
    lean: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.both <= min(self.caption_dropout, self.embedding_dropout):
            raise ValueError(f"both_dropout is {self.both}, which is more than one of the two dropouts")
        if self.caption_dropout + self.embedding_dropout - self.both > 1:
            raise ValueError("caption_dropout and embedding_dropout leave more than all samples without something")
        if not 0 < self.lean < math.inf:
            raise ValueError(f"lean is {self.lean}, expected a number above 0")

    @property
    def both(self) -> float:
        """The share of samples that are trained without any condition."""
        chance = self.caption_dropout * self.embedding_dropout
        return chance if self.both_dropout is None else self.both_dropout


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
        channels_last(self)


class DecoderObjective:
    """The weighted error of the predicted clean picture (or of what else the schedule says is predicted)."""

    name = "decoder"

    def __init__(
        self,
        parts: DecoderParts,
        schedule: Schedule,
        examples: Examples,
        conditions: Conditions,
        lesson: DecoderLesson,
    ) -> None:
        """Train on pictures and what CLIP says about them and their captions, but for the held-out ones."""
        self.module = parts
        self.parts = parts
        self.schedule = schedule
        self.alpha_bars = schedule.alpha_bars.to(parts.text_proj.learned_classifier_free_guidance_embeddings.device)
        self.pictures = examples.pictures
        self.embeddings = conditions.images
        self.spread = deviations(conditions.images).to(self.alpha_bars.device)
        self.captions = conditions.captions
        self.count = len(examples.pictures) - examples.held_out
        self.emphasis = examples.emphasis
        self.lesson = lesson

    def loss(self, draw: Draw) -> Tensor:
        """Return the weighted error at random timesteps."""
        return self._loss(choose(self.count, draw, self.emphasis), draw)

    def _loss(self, chosen: Tensor, draw: Draw) -> Tensor:
        lesson = self.lesson
        t = draw.timesteps(len(self.alpha_bars), lesson.lean)
        lot = draw.uniform()
        no_text = lot < lesson.caption_dropout
        no_image = (lot < lesson.both) | (lot > 1 - (lesson.embedding_dropout - lesson.both))
        weight = weights(self.schedule.prediction_type, self.alpha_bars[t])
        return (weight * self._error(chosen, t, no_text, no_image, lesson.embedding_noise, draw)).mean()

    def _condition(
        self, chosen: Tensor, image: Tensor, no_text: Tensor, no_image: Tensor
    ) -> tuple[Conditioning, Tensor]:
        nothing = self.parts.text_proj.learned_classifier_free_guidance_embeddings
        image = torch.where(no_image[:, None], nothing, image)
        text = self.captions.states(chosen, no_text, trim=True)
        mask = F.pad(text.mask, (self.parts.text_proj.config.clip_extra_context_tokens, 0), value=True)
        return self.parts.text_proj(image, text.embedding, text.hidden), mask

    def _error(
        self, chosen: Tensor, t: Tensor, no_text: Tensor, no_image: Tensor, perturbation: float, draw: Draw
    ) -> Tensor:
        x0 = (take(self.pictures, chosen).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        noise = draw.normal(*x0.shape[1:])
        alpha_bar = self.alpha_bars[t][:, None, None, None]
        x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        image = take(self.embeddings, chosen)
        size = perturbation * draw.uniform(1)
        image = image + size * self.spread * draw.normal(image.shape[-1])
        condition, mask = self._condition(chosen, image, no_text, no_image)
        predicted = self.parts.decoder(x, t, condition.context, condition.time, mask)[:, :3]
        wanted = expected(self.schedule.prediction_type, x0, noise, alpha_bar)
        return F.mse_loss(predicted.float(), wanted, reduction="none").mean(dim=(1, 2, 3))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the held-out loss, and the held-out error at six noise levels, with every condition given."""
        device = self.alpha_bars.device
        chosen = torch.arange(self.count, len(self.pictures), device=device)[:256]
        keep = torch.zeros(len(chosen), dtype=torch.bool, device=device)
        figures = {"held_out": float(self._loss(chosen, Draw(0, len(chosen), device)))}
        for level in (990, 900, 750, 600, 400, 150):
            t = torch.full((len(chosen),), level, device=device)
            draw = Draw(level, len(chosen), device)
            figures[f"mse_{level}"] = float(self._error(chosen, t, keep, keep, 0.0, draw).mean())
        return figures

    @torch.no_grad()
    def samples(self, guidance: float = 2.0, steps: int = 25) -> Tensor:
        """Return 16 pictures painted from held-out captions and their true embeddings."""
        device = self.alpha_bars.device
        chosen = torch.arange(self.count, len(self.pictures), device=device)[:16]
        count = len(chosen)
        drop = torch.arange(2 * count, device=device) < count
        twice = pair(chosen, chosen)
        condition, mask = self._condition(twice, take(self.embeddings, twice), drop, drop)

        def predict(x: Tensor, step: Step) -> Tensor:
            t = torch.full((), step.t, device=device)
            out: Tensor = self.parts.decoder(x, t, condition.context, condition.time, mask)
            return out

        noise = Noise(range(count))
        x = noise.draw(self.pictures.shape[1:], device)
        denoise = make_denoiser(predict, self.schedule, guidance)
        return ancestral(denoise, x, self.schedule.steps(steps), noise, lambda _: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderStage:
    """The decoder and its projection from their configs and the scheduler's."""

    name: ClassVar[str] = "decoder"
    seed: ClassVar[int] = 3
    optional: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("clip",)
    text_proj: dict[str, Any]
    decoder: dict[str, Any]
    scheduler: dict[str, Any]
    lesson: DecoderLesson

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Both networks and the scheduler."""
        return {"text_proj": self.text_proj, "decoder": self.decoder, "decoder_scheduler": self.scheduler}

    def fresh(self) -> DecoderParts:
        """Return both networks with fresh weights."""
        return DecoderParts(TextProjConfig.from_config(self.text_proj), UNetConfig.from_config(self.decoder))

    def networks(self, module: DecoderParts) -> dict[str, nn.Module]:
        """Return both networks."""
        return {"text_proj": module.text_proj, "decoder": module.decoder}

    def objective(self, module: DecoderParts, material: Material) -> DecoderObjective:
        """Return what both networks minimise together."""
        schedule = trained_schedule(self.scheduler, "decoder_scheduler")
        examples, conditions = material.dataset.examples(self.name, self.decoder["sample_size"]), material.conditions()
        look_at_own_tokens(module.text_proj, module.decoder, examples.pictures, conditions.images)
        return DecoderObjective(module, schedule, examples, conditions, self.lesson)

    def adapt(self, module: DecoderParts, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""
