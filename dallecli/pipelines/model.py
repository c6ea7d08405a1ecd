"""What a family of unCLIP models supplies, and the verbs are written on: `Model`. A family knows nothing of verbs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Step
from dallecli.pipelines.embedding import Embedding
from dallecli.tasks.stages import DiffusionSettings

Words = TypeVar("Words")

Watch = Callable[[str, int, int], None]
"""Called after each step with the stage, the steps done and the steps in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A part of pictures that is painted anew, while the rest is known and stays.

    `pixels` [b 3 s s] in [-1, 1] are the pictures at the size of the last stage that runs, and `unknown`, boolean
    [b 1 s s], is True where they are painted. Every step but the last is taken `resample` times. `held` is the noise
    under which what is known lies at every step, for nets that were trained to see it so; None is fresh each time.
    """

    pixels: Tensor
    unknown: Tensor
    resample: int
    held: Tensor | None = None

    def at(self, size: int, device: torch.device) -> "Hole":
        """The same for a stage that paints `size` pixels: known there is only what is known everywhere beneath."""
        unknown = (F.adaptive_max_pool2d(self.unknown.float(), size) > 0).to(device)
        return Hole(pixels=at_size(self.pixels, size).to(device), unknown=unknown, resample=self.resample)

    def filled(self, painted: Tensor) -> Tensor:
        """The pictures [b 3 s s] with `painted` [b 3 s s] in the hole; what is known is so to the last bit."""
        return torch.where(self.unknown.to(painted.device), painted, self.pixels.to(painted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Pictures that are painted over instead of noise: `pixels` [b or 1, 3, s, s] in [-1, 1].

    `strength`, above 0 and up to 1, is the share of the steps that are taken: at 1 next to nothing is left of them.
    """

    pixels: Tensor
    strength: float

    def first(self, steps: int) -> int:
        """The first step that is taken, of so many; the last one always is."""
        return min(steps - int(steps * self.strength), steps - 1)

    def at(self, size: int, device: torch.device) -> "Beginning":
        """The same for a stage that paints `size` pixels."""
        return Beginning(pixels=at_size(self.pixels, size).to(device), strength=self.strength)

    def under_noise(self, step: Step, noise: Noise) -> Tensor:
        """One for each of `noise`, at the noise level at which `step`, the first that is taken, begins."""
        x0 = self.pixels.expand(len(noise), -1, -1, -1)
        return step.signal * x0 + step.sigma * noise.like(x0)


class Model(Protocol[Words]):
    """The parts of an unCLIP model. `Words` is whatever the family keeps of a prompt it has read.

    The batch is as long as `noise`. Words are of as many prompts as there are pictures in it, or of one for all of
    them. Stages are keyed by their names.
    """

    def read(self, prompts: Sequence[str], negative: str = "") -> Words:
        """Encode prompts, one or more; "" is one, too, and means nothing. Guidance leads away from `negative`."""
        ...

    def meaning(self, words: Words) -> Embedding:
        """The embeddings [prompts, d] of words, as CLIP's text tower has them."""
        ...

    def see(self, images: Sequence[Image.Image]) -> Embedding:
        """The embeddings [b, d] of RGB pictures of any size, as CLIP's image tower has them."""
        ...

    def imagine(
        self,
        words: Words,
        noise: Noise,
        settings: DiffusionSettings,
        candidates: int,
        watch: Watch,
        *,
        like: Embedding | None = None,
    ) -> tuple[Embedding, Tensor]:
        """Let the prior make an image embedding [b, d] of each picture: the best of `candidates`.

        The best fits the words and, where there is one, the picture [b, d] that it is to be `like`, both alike.
        Also returned is how well each fits the words, as the cosine [b] of the angle between both.
        """
        ...

    def decode(
        self,
        embedding: Embedding,
        words: Words,
        noise: Noise,
        stages: Mapping[str, DiffusionSettings],
        watch: Watch,
        *,
        size: int,
        start: Mapping[str, Tensor] | None = None,
        eta: float | None = None,
        hole: Hole | None = None,
        beginning: Beginning | None = None,
    ) -> Tensor:
        """Paint embeddings to pixels [b, 3, size, size] in [-1, 1], running the painting stages that `stages` names.

        `start` holds the x_T [b, c, h, w] of every painting stage; without it, it is drawn. `eta` is DDIM's, for all
        stages, and for no other sampler. With `hole`, the known part of the result is exactly `hole.pixels`. With
        `beginning` the decoder starts from pictures instead.
        """
        ...

    def invert(
        self,
        embedding: Embedding,
        words: Words,
        pixels: Tensor,
        noise: Noise,
        settings: DiffusionSettings,
        stages: Sequence[str],
        watch: Watch,
    ) -> dict[str, Tensor]:
        """The x_T [b, c, h, w] of the painting `stages`, from which `decode` paints `pixels` [b, 3, s, s] again.

        That is with the sampler "ddim", `settings`' steps in every stage, its guidance in the decoder, and eta 0.
        """
        ...


def at_size(pixels: Tensor, size: int) -> Tensor:
    """Pictures [b 3 s s] averaged down to `size`, which is how upsamplers' low-resolution pictures are defined."""
    return pixels if pixels.shape[-1] == size else F.adaptive_avg_pool2d(pixels, size)
