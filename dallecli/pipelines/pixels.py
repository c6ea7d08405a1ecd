"""Pictures as tensors, and back."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dallecli.size import Size


def to_levels(images: Sequence[Image.Image]) -> Tensor:
    """Turn RGB images of one size into levels [b 3 h w] in [0, 1], float32."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).float().permute(0, 3, 1, 2) / 255


def to_pixels(images: Sequence[Image.Image]) -> Tensor:
    """Turn RGB or grey images of one size into pixels [b 3 h w] or [b 1 h w] in [-1, 1], float32."""
    levels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float()
    if levels.ndim == 3:
        levels = levels[..., None]
    return levels.permute(0, 3, 1, 2) / 127.5 - 1


def size_of(pixels: Tensor) -> Size:
    """The size of pictures [b c h w]."""
    height, width = pixels.shape[-2:]
    return Size(width, height)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn pixels [b 3 h w] in [-1, 1] into RGB images; what lies outside is clipped."""
    return from_levels(pixels.float() * 0.5 + 0.5)


def from_levels(levels: Tensor) -> list[Image.Image]:
    """Turn levels [b 3 h w] in [0, 1] into RGB images; what lies outside is clipped."""
    bytes = (levels.clamp(0, 1) * 255).round().byte()
    return [Image.fromarray(array) for array in bytes.permute(0, 2, 3, 1).contiguous().cpu().numpy()]
