"""How a model folder's image tower embeds pictures, for every family."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from dallecli.errors import BadFile, BadFolder
from dallecli.nets.clip import ClipPreprocessing, ClipVisionConfig, CLIPVisionModel
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stage import precise


def see(parts: Parts, images: Sequence[Image.Image]) -> Tensor:
    """The embeddings [b d] of RGB pictures of any size, prepared as the folder says.

    Raises NonFinite if the tower overflows, and BadFile for a preparation that is not implemented.
    """
    return embed(parts, preprocessing(parts)(images))


def embed(parts: Parts, pixels: Tensor) -> Tensor:
    """The embeddings [b d], at least float32, of prepared pictures [b 3 s s], in which 0 is CLIP's mean colour.

    Raises NonFinite if the tower overflows.
    """
    pixels = pixels.to(parts.device)

    def encode(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        tower = parts.net("image_encoder", lambda json: CLIPVisionModel(ClipVisionConfig.from_config(json)), dtype)
        vector = tower(pixels.to(dtype)).to(precise(dtype))
        return vector, vector.isfinite().all(dim=1)

    return parts.finite("image tower", None, encode)


def preprocessing(parts: Parts) -> ClipPreprocessing:
    """The preparation that the folder states, else CLIP's own: older folders have no feature_extractor."""
    config = parts.folder.preprocessing()
    if config is None:
        return ClipPreprocessing.for_size(parts.config("image_encoder", ClipVisionConfig.from_config).image_size)
    try:
        return ClipPreprocessing.from_config(config)
    except ValueError as problem:
        where = str(parts.folder.path_of("feature_extractor"))
        raise BadFile(f"pictures can't be prepared so: {problem}", where) from problem


def check_image_tower(parts: Parts, width: tuple[str, int]) -> None:
    """Refuse an image tower that does not fit, before it is loaded.

    Its embeddings must be as wide as those of the part in `width`, and pictures prepared in the size that it reads.
    Raises BadFolder, BadFile.
    """
    config = parts.config("image_encoder", ClipVisionConfig.from_config)
    parts.check_same("width of embeddings", "image_encoder", config.projection_dim, *width)
    side, prepared = config.image_size, preprocessing(parts).size
    if prepared != (side, side):
        by = parts.folder.path_of("feature_extractor").name  # Kandinsky has it under another name
        what = f"the image_encoder reads {side} x {side} pixels, the {by} makes {prepared}"
        raise BadFolder(what, str(parts.folder.path), "these parts are of different models")
