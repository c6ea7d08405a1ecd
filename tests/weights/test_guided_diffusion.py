"""Checkpoints of guided-diffusion and GLIDE in the names of the networks here: each number lands where it belongs."""

import json
from pathlib import Path

import pytest
import torch

from dallecli.nets.clip import ClipTextConfig
from dallecli.nets.glide_text import GlideTextEncoder
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.weights.glide import CHECKPOINTS, parts_of
from dallecli.weights.guided_diffusion import Move, read_unet

KEYS = Path(__file__).parents[1] / "nets" / "published_keys"


def published(name: str) -> dict[str, tuple[int, ...]]:
    listed = json.loads((KEYS / f"glide_{name}.json").read_text())["state_dict"]
    return {key: tuple(shape) for key, shape in listed.items()}


@pytest.mark.parametrize("name", ["base", "upsample", "base_inpaint", "upsample_inpaint"])
def test_the_published_checkpoints_fill_the_networks_at_full_size(name: str) -> None:
    shapes = published(name)
    (_, tower, tower_moves), (_, unet, unet_moves) = parts_of(shapes, CHECKPOINTS[f"{name}.pt"])
    with torch.device("meta"):
        nets = [GlideTextEncoder(ClipTextConfig.from_config(tower)), UNet(UNetConfig.from_config(unet))]
    for net, moves in zip(nets, (tower_moves, unet_moves), strict=True):
        filled = {target: shape for move in moves for target, shape in move.shapes(shapes)}
        assert filled == {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    assert sorted(move.source for move in (*tower_moves, *unet_moves)) == sorted(shapes)
    total = sum(tensor.numel() for net in nets for tensor in net.state_dict().values())
    assert total == json.loads((KEYS / f"glide_{name}.json").read_text())["num_parameters"]
    assert sum(tensor.numel() for tensor in nets[0].state_dict().values()) == 76_695_808


def test_projections_are_parted_by_heads_or_as_a_whole() -> None:
    # 2 heads of width 3: the rows of a checkpoint are q0 k0 v0 q1 k1 v1, or q k v.
    rows = torch.arange(18).view(18, 1, 1)
    names = ("q", "k", "v")
    by_heads = Move(source="x", targets=names, heads=2, flat=True).split(rows)
    whole = Move(source="x", targets=names, flat=True).split(rows)
    assert [part.flatten().tolist() for part in by_heads] == [
        [0, 1, 2, 9, 10, 11], [3, 4, 5, 12, 13, 14], [6, 7, 8, 15, 16, 17]
    ]  # fmt: skip
    assert [part.flatten().tolist() for part in whole] == [list(range(k, k + 6)) for k in (0, 6, 12)]
    assert {tuple(part.shape) for part in (*by_heads, *whole)} == {(6, 1)}


def test_the_order_of_a_context_is_always_by_heads() -> None:
    shapes = {name: shape for name, shape in published("base").items() if "transformer" not in name}
    unet = {name: shape for name, shape in shapes.items() if not name.startswith(("token", "pos", "padd", "final"))}
    read = read_unet(unet, head_width=64, by_heads=False)
    heads = {move.source.rpartition(".")[0][-4:]: move.heads for move in read.moves if len(move.targets) > 1}
    assert heads["r_kv"] is not None
    assert heads[".qkv"] is None


def test_what_is_no_such_checkpoint_is_refused_in_words() -> None:
    shapes = published("base")
    with pytest.raises(ValueError, match="it looks like upsample"):
        parts_of(published("upsample"), CHECKPOINTS["base.pt"])
    with pytest.raises(ValueError, match="it has a tensor extra"):
        parts_of({**shapes, "extra.weight": (1,)}, CHECKPOINTS["base.pt"])
    with pytest.raises(ValueError, match="does not have the blocks of a UNet"):
        parts_of({k: v for k, v in shapes.items() if "blocks." not in k or "res" in k}, CHECKPOINTS["base.pt"])
    with pytest.raises(ValueError, match="it has no tensor token_embedding"):
        parts_of({"a": (1,)}, CHECKPOINTS["base.pt"])
