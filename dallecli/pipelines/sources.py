"""What a verb starts from: the embedding of a picture, and the noise from which it is painted again."""

from typing import Any, Final

import torch
from PIL import Image, ImageOps
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.embedding_file import read_embedding
from dallecli.pictures.reading import read_picture
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.pixels import to_pixels
from dallecli.pipelines.settings import PaintSettings
from dallecli.pipelines.unclip_parts import Embedder, Encoded, Painter
from dallecli.pipelines.watch import Watch
from dallecli.size import Size
from dallecli.source import Source

INVERSION_SEED: Final = 2**63 - 1
"""The seed of the small noise that inversion adds. A picture's inverted noise does not depend on the requested seed,
and no other draws use this one."""


def look(embedder: Embedder[Any], source: Source) -> Embedding:
    """The embedding [1 d] of a picture, or the one in a file."""
    if source.kind == "picture":
        return embedder.see([read_picture(source).image]).on_cpu()
    embedded = read_embedding(source)
    return Embedding(vector=torch.from_numpy(embedded.vector)[None], space=embedded.space)


def find_noise(
    painter: Painter[Encoded],
    source: Source,
    embedding: Embedding,
    words: Encoded,
    settings: PaintSettings,
    watch: Watch,
) -> dict[str, Tensor]:
    """The x_T [1 c h w] of every stage from which a picture is painted again, or those in a file.

    The settings have the dials of the inversion, too. Only the middle of a picture counts, as with CLIP's image tower.
    """
    if source.kind == "embedding":
        return {stage: torch.from_numpy(x_T)[None] for stage, x_T in read_embedding(source).noise.items()}
    pixels, noise = to_pixels([middle_of(source, settings.size)]), Noise([INVERSION_SEED])
    found = painter.invert(embedding, words, pixels, noise, settings.dials, watch)
    return {stage: x_T.cpu() for stage, x_T in found.items()}


def middle_of(source: Source, size: Size, method: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """The largest part in the middle of a picture that has the proportions of a size, scaled to it."""
    return ImageOps.fit(read_picture(source).image, (size.width, size.height), method)
