"""VQGAN has the published tensors in all of their names, and computes what the reference computes."""

import json
from pathlib import Path

import pytest
import torch
import vqgan_oracle as oracle
from torch import nn

from dallecli.nets.vqgan import LEVELS, SYMMETRIC, Codebook, VqganConfig, VqganDecoder, VqganEncoder
from dallecli.weights.vqgan import Half, read_vqgan

NETS = {"encoder": VqganEncoder, "decoder": VqganDecoder}


def shapes_of(table: oracle.Table) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in table.items()}


def filled(table: oracle.Table, part: str, **changes: object) -> nn.Module:
    """The network of a part, with the tensors of a checkpoint."""
    half = read_vqgan(shapes_of(table), SYMMETRIC)[part]
    net = NETS[part](VqganConfig.from_config(half.config | changes))
    net.load_state_dict({move.targets[0]: move.split(table[move.source])[0] for move in half.moves}, strict=True)
    return net.requires_grad_(False).eval()


@pytest.mark.parametrize("name", ["vqgan_taming", "vqgan_flax", "vqgan_detoker"])
def test_the_published_checkpoints_fill_the_networks_at_full_size(name: str) -> None:
    published = json.loads((Path(__file__).parent / "published_keys" / f"{name}.json").read_text())
    shapes = {key: tuple(shape) for key, shape in published["state_dict"].items()}
    halves = read_vqgan(shapes, LEVELS)
    assert list(halves) == (["decoder"] if name == "vqgan_detoker" else ["encoder", "decoder"])
    count = sum(_check_half(part, half, shapes) for part, half in halves.items())
    assert count == published["num_parameters"]
    assert sorted(move.source for half in halves.values() for move in half.moves) == sorted(shapes)


def _check_half(part: str, half: Half, shapes: dict[str, tuple[int, ...]]) -> int:
    config = VqganConfig.from_config(half.config)
    assert (config.cell, config.num_vq_embeddings, config.norm_eps, config.pixel_range) == (16, 16384, 1e-6, LEVELS)
    with torch.device("meta"):
        net = NETS[part](config)
    assert dict(pair for move in half.moves for pair in move.shapes(shapes)) == shapes_of(net.state_dict())
    return sum(tensor.numel() for tensor in net.state_dict().values())


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_the_encoder_gives_the_vectors_and_codes_of_the_reference(size: tuple[int, int]) -> None:
    table, pixels = oracle.table(), torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found, wanted = filled(table, "encoder")(pixels), oracle.Reference(table).vectors(pixels)
    # sums of float32 in another order
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    book = filled(table, "decoder").quantize
    assert torch.equal(book.nearest(found), oracle.Reference(table).codes(pixels))


@pytest.mark.parametrize(("size", "eps"), [((4, 4), 1e-6), ((3, 5), 1e-6), ((4, 4), 1e-2)])
def test_the_decoder_gives_the_pixels_of_the_reference_with_the_epsilon_of_its_config(
    size: tuple[int, int], eps: float
) -> None:
    table, codes = oracle.table(), torch.randint(oracle.CODES, (2, *size), generator=torch.Generator().manual_seed(1))
    found = filled(table, "decoder", norm_eps=eps)(codes)
    wanted = oracle.Reference(table, eps).pixels(codes)
    assert found.shape == (2, 3, 2 * size[0], 2 * size[1])
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_flax_names_and_kernels_are_the_same_network() -> None:
    table = oracle.table()
    for part in NETS:
        plain, flax = (filled(tensors, part).state_dict() for tensors in (table, oracle.in_flax(table)))
        assert plain.keys() == flax.keys()
        assert all(torch.equal(tensor, flax[name]) for name, tensor in plain.items())


def test_of_equally_near_vectors_the_first_is_taken_and_many_cells_are_compared_in_pieces() -> None:
    book = Codebook(3, 2).requires_grad_(False)
    book.embedding.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    cells = torch.tensor([[0.9, 0.3], [-2.0, 0.0]]).repeat(900, 1).T.reshape(1, 2, 30, 60)
    assert book.nearest(cells).flatten().tolist() == [0, 2] * 900
    assert torch.equal(book.nearest(cells.bfloat16()), book.nearest(cells))


def test_pixels_are_in_the_range_that_the_config_states() -> None:
    config = read_vqgan(shapes_of(oracle.table()), SYMMETRIC)["decoder"].config
    levels = torch.linspace(0, 1, 11)
    for name, low in ((SYMMETRIC, -1.0), (LEVELS, 0.0)):
        own = VqganConfig.from_config(config | {"pixel_range": name})
        assert own.from_levels(levels).aminmax() == (low, 1.0)
        assert torch.allclose(own.to_levels(own.from_levels(levels)), levels)
        assert own.to_levels(torch.tensor([-9.0, 9.0])).tolist() == [0.0, 1.0]


BAD = {
    "pixel_range": "[0, 255]",
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpBlock2D", "UpDecoderBlock2D"],
    "num_vq_embeddings": 0,
    "norm_eps": 0.0,
    "norm_num_groups": 5,
    "layers_per_block": 0,
}


@pytest.mark.parametrize("field", BAD)
def test_a_config_of_no_network_is_refused(field: str) -> None:
    config = read_vqgan(shapes_of(oracle.table()), SYMMETRIC)["decoder"].config
    with pytest.raises(ValueError, match=rf"{field}|there are no"):
        VqganConfig.from_config(config | {field: BAD[field]})


OTHERS = {
    "another network": ({"w": (2, 3)}, "it has a tensor w"),
    "nothing": ({"loss.w": (2, 3)}, "no tensor that becomes quantize"),
    "another block": ({"decoder.mid.block_3.conv1.weight": (2, 3, 1, 1)}, "it has a tensor decoder.mid.block_3"),
    "matrices": ({"decoder.mid.attn_1.q.weight": (2, 3)}, "no kernel of a convolution"),
    "levels without number": ({"decoder.up.99.block.0.conv1.bias": (2,)}, "no tensor that becomes"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_vqgan_is_refused_in_words(what: str) -> None:
    shapes, words = OTHERS[what]
    with pytest.raises(ValueError, match=words):
        read_vqgan(shapes, SYMMETRIC)
