"""IF's UNets against diffusers' class, on the same random weights; the tolerance and its reason are `test_parity`'s."""

import json
from pathlib import Path
from typing import Any

import if_oracle
import pytest
import torch
from oracle import difference

from dallecli.nets.conditions import AHEAD, Context, Time
from dallecli.nets.if_unet import IfUNet, IfUNetConfig

from .test_parity import PICTURES, TOLERANCE, random, twin

pytestmark = pytest.mark.usefixtures("without_gradients")

TOKENS = 11
STAGES = {
    "small": (if_oracle.SMALL, None),
    "large": (if_oracle.LARGE, 250),
    "lists in the small": (if_oracle.SMALL | {"layers_per_block": [2, 1]}, None),
    "only the text": (if_oracle.SMALL | {"only_cross_attention": True}, None),
    "only the text, large": (if_oracle.LARGE | {"only_cross_attention": True}, 0),
    "only the text in the middle": (if_oracle.LARGE | {"mid_block_only_cross_attention": True}, 999),
}


@pytest.fixture(scope="module")
def without_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", STAGES)
def test_predictions_equal_the_oracles(name: str) -> None:
    config, level = STAGES[name]
    theirs = if_oracle.unet(config)
    ours = twin(IfUNet, IfUNetConfig, theirs)
    x = random(PICTURES, config["in_channels"], config["sample_size"], config["sample_size"])
    states = random(PICTURES, TOKENS, if_oracle.TEXT, seed=1)
    labels = None if level is None else torch.full((PICTURES,), level)
    for t in (0, 417, 999):
        truth = theirs(x, t, states, class_labels=labels).sample
        assert difference(ours(x, torch.tensor(t), states, level), truth) < TOLERANCE


def test_what_is_computed_once_a_run_is_what_every_step_would_compute() -> None:
    config, level = STAGES["large"]
    ours = twin(IfUNet, IfUNetConfig, if_oracle.unet(config))
    x, states = random(PICTURES, 6, 32, 32), random(PICTURES, TOKENS, if_oracle.TEXT, seed=1)
    ts = list(range(999, 999 - 2 * AHEAD, -1))
    told = ours.condition(states, level)
    times, context = ours.times(ts, told.time), Context(told.context)
    for place in (0, AHEAD - 1, AHEAD, len(ts) - 1, 0):
        alone = ours(x, torch.tensor(ts[place]), states, level)
        assert difference(ours.denoise(x, Time(times, place), context), alone) < TOLERANCE


def test_a_noise_level_is_for_the_network_that_enlarges() -> None:
    states = random(1, TOKENS, if_oracle.TEXT)
    for name, level in (("small", 250), ("large", None)):
        ours = twin(IfUNet, IfUNetConfig, if_oracle.unet(STAGES[name][0]))
        with pytest.raises(ValueError, match="a noise level is for"):
            ours.condition(states, level)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"act_fn": "silu"}, "act_fn"),
        ({"addition_embed_type": "image"}, "addition_embed_type"),
        ({"cross_attention_norm": None}, "cross_attention_norm"),
        ({"class_embed_type": "identity"}, "class_embed_type"),
        ({"time_embedding_act_fn": "gelu"}, "time_embedding_act_fn"),
        ({"resnet_skip_time_act": True}, "time_embedding_act_fn"),
        ({"timestep_post_act": "gelu"}, "timestep_post_act"),
        ({"only_cross_attention": [True, False]}, "only_cross_attention"),
        ({"layers_per_block": [1]}, "layers_per_block"),
        ({"cross_attention_dim": 24}, "cross_attention_dim"),
        ({"encoder_hid_dim": None}, "encoder_hid_dim"),
        ({"addition_embed_type_num_heads": 3}, "addition_embed_type_num_heads"),
    ],
)
def test_variants_that_are_not_known_are_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        IfUNetConfig.from_config(if_oracle.SMALL | change)


@pytest.mark.parametrize("name", ["I_M", "I_L", "I_XL", "II_M", "II_L"])
def test_full_size_networks_have_the_published_tensors(name: str) -> None:
    published = json.loads((Path(__file__).parent / "published_keys" / f"if_{name}.json").read_text())
    with torch.device("meta"):
        net = IfUNet(IfUNetConfig.from_config(published["config"]))
    assert {key: list(tensor.shape) for key, tensor in net.state_dict().items()} == published["state_dict"]
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == published["num_parameters"]
