"""Pictures are prepared for CLIP's image tower as transformers prepares them, to the last bit."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from dallecli.nets.clip import ClipPreprocessing

CONFIGS = {
    "clip": {},
    "smaller": {"size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 30}},
    "older": {"size": 28, "crop_size": 28, "feature_extractor_type": "CLIPFeatureExtractor"},
    "squashed": {"size": {"height": 20, "width": 26}, "do_center_crop": False, "resample": 4},
    "padded": {"size": 20, "crop_size": 31},
    "plain": {"do_normalize": False, "resample": 2},
    "levels": {
        "do_rescale": False,
        "do_resize": False,
        "crop_size": 16,
        "image_mean": [0.5] * 3,
        "image_std": [2.0] * 3,
    },
}


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(50, 40), (33, 300), (17, 17), (401, 223)], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_pixels_equal_the_oracles(name, size):
    config = CONFIGS[name]
    theirs = CLIPImageProcessorPil(**config)(picture(*size), return_tensors="pt").pixel_values
    assert torch.equal(ClipPreprocessing.from_config(config)([picture(*size)]), theirs)


def test_without_a_config_pictures_are_prepared_as_clip_does_at_the_towers_size():
    assert ClipPreprocessing.for_size(32) == ClipPreprocessing.from_config({"size": 32, "crop_size": 32})
    assert ClipPreprocessing.for_size(32).size == (32, 32)


def test_a_strip_costs_no_more_than_its_middle():
    # Enlarged whole to 224 pixels of height, this would have 2.4 GB.
    strip = Image.new("RGB", (16_384, 1), "red")
    pixels = ClipPreprocessing()([strip])
    assert pixels.shape == (1, 3, 224, 224)
    assert torch.equal(pixels, ClipPreprocessing()([Image.new("RGB", (64, 1), "red")]))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"size": {"longest_edge": 20}}, "size"),
        ({"size": "large"}, "size"),
        ({"crop_size": {"height": 20}}, "crop_size"),
        ({"crop_size": 0}, "crop_size"),
        ({"resample": 9}, "resample"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
    ],
)
def test_what_is_no_preprocessing_is_refused_by_name(config, what):
    with pytest.raises(ValueError, match=what):
        ClipPreprocessing.from_config(config)
