"""What a family of unCLIP models supplies, and the verbs are written on. A family knows nothing of verbs."""

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
"""Whatever a family keeps of prompts that it has read: of one for each picture, or of one for all of them."""

EncodedThere = TypeVar("EncodedThere", contravariant=True)
"""The same, for what only takes it."""


class Embedder(Protocol[Encoded]):
    """Gets image embeddings: CLIP's towers, and the prior in their space. The batch is as long as `noise`."""

    def read(self, prompts: Sequence[str], negative: str = "") -> Encoded:
        """Encode prompts, one or more; "" is one, too, and means nothing. Guidance leads away from `negative`."""
        ...

    def meaning(self, words: Encoded) -> Embedding:
        """The embeddings [prompts d] of prompts, as CLIP's text tower has them."""
        ...

    def see(self, images: Sequence[Image.Image]) -> Embedding:
        """The embeddings [b d] of RGB pictures of any size, as CLIP's image tower has them."""
        ...

    def imagine(self, words: Encoded, noise: Noise, settings: PriorSettings, watch: Watch) -> tuple[Embedding, Tensor]:
        """Let the prior make an image embedding [b d] of each picture.

        Also returned is how well each fits the words, as the cosine [b] of the angle between both.
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

        That is with the sampler "ddim", with `INVERSION`'s steps in every stage and its guidance in the decoder, eta 0.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UnClipParts(Generic[Encoded]):
    """An unCLIP model: what gets an image embedding, and what paints it."""

    embedder: Embedder[Encoded]
    painter: Painter[Encoded]
