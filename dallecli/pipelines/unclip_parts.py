"""What a family of unCLIP models supplies, and the verbs are written on. A family knows nothing of verbs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.given import NOTHING, Given
from dallecli.pipelines.watch import Watch
from dallecli.tasks.stages import DiffusionSettings

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

    def imagine(
        self,
        words: Encoded,
        noise: Noise,
        settings: DiffusionSettings,
        candidates: int,
        watch: Watch,
        *,
        like: Embedding | None = None,
    ) -> tuple[Embedding, Tensor]:
        """Let the prior make an image embedding [b d] of each picture: the best of `candidates`.

        The best fits the words and, where there is one, the picture [b d] that it is to be `like`, both alike. Also
        returned is how well each fits the words, as the cosine [b] of the angle between both.
        """
        ...


class Painter(Protocol[EncodedThere]):
    """Paints image embeddings: the decoder, and the upsamplers after it. The batch is as long as `noise`."""

    def decode(
        self,
        embedding: Embedding,
        words: EncodedThere,
        noise: Noise,
        stages: Mapping[str, DiffusionSettings],
        watch: Watch,
        *,
        size: int,
        given: Given = NOTHING,
    ) -> Tensor:
        """Paint embeddings to pixels [b 3 size size] in [-1, 1], running the painting stages that `stages` names."""
        ...

    def invert(
        self,
        embedding: Embedding,
        words: EncodedThere,
        pixels: Tensor,
        noise: Noise,
        settings: DiffusionSettings,
        stages: Sequence[str],
        watch: Watch,
    ) -> dict[str, Tensor]:
        """The x_T [b c h w] of the painting `stages`, from which `decode` paints `pixels` [b 3 s s] again.

        That is with the sampler "ddim", `settings`' steps in every stage, its guidance in the decoder, and eta 0.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UnClipParts(Generic[Encoded]):
    """An unCLIP model: what gets an image embedding, and what paints it."""

    embedder: Embedder[Encoded]
    painter: Painter[Encoded]
