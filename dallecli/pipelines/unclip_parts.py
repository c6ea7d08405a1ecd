"""What a family of unCLIP models supplies, and what the verbs use. A family knows nothing of verbs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.settings import PaintSettings, PriorSettings, StageDials
from dallecli.pipelines.watch import Watch

Encoded = TypeVar("Encoded")
"""What a family keeps of prompts that it has read: one for each picture, or one for all of them."""

EncodedThere = TypeVar("EncodedThere", contravariant=True)
"""The same, for classes that only take it."""


class Embedder(Protocol[Encoded]):
    """Gets image embeddings: CLIP's towers, and the prior in their space. The batch is as long as `noise`."""

    def read(self, prompts: Sequence[str], negative: str = "") -> Encoded:
        """Encode one or more prompts; "" is the empty prompt. Guidance leads away from `negative`."""
        ...

    def meaning(self, words: Encoded) -> Embedding:
        """The embeddings [p d] of p prompts, from CLIP's text tower."""
        ...

    def see(self, images: Sequence[Image.Image]) -> Embedding:
        """The embeddings [b d] of RGB pictures of any size, from CLIP's image tower."""
        ...

    def imagine(self, words: Encoded, noise: Noise, settings: PriorSettings, watch: Watch) -> tuple[Embedding, Tensor]:
        """Let the prior make an image embedding [b d] for each picture: the best of its candidates.

        Its cosine to the words [b] is returned as well.
        """
        ...


class Painter(Protocol[EncodedThere]):
    """Paints image embeddings: the decoder, and the upsamplers after it. The batch is as long as `noise`."""

    def decode(
        self, embedding: Embedding, words: EncodedThere, noise: Noise, settings: PaintSettings, watch: Watch
    ) -> Tensor:
        """Paint embeddings to pixels [b 3 s s] in [-1, 1], running the painting stages that the settings have."""
        ...

    def invert(
        self, embedding: Embedding, words: EncodedThere, pixels: Tensor, noise: Noise, dials: StageDials, watch: Watch
    ) -> dict[str, Tensor]:
        """The x_T [b c h w] of every painting stage in `dials`, from which `decode` paints `pixels` [b 3 s s] again.

        It does so with the sampler "ddim", with `INVERSION`'s steps in every stage and its guidance in the decoder, and
        eta 0.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UnClipParts(Generic[Encoded]):
    """An unCLIP model: the part that gets image embeddings, and the one that paints them."""

    embedder: Embedder[Encoded]
    painter: Painter[Encoded]
