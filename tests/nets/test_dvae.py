"""DALL·E 1's autoencoder has the published tensors, and computes what the reference computes."""

import json
from pathlib import Path

import dvae_oracle as oracle
import pytest
import torch
import torch.nn.functional as F

from dallecli.nets.dvae import Codebook, DvaeConfig, DvaeDecoder, DvaeEncoder, squeeze, unsqueeze
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.nets.single import multiply_in_single
from dallecli.weights.dvae import config_of

NETS = {"encoder": DvaeEncoder, "decoder": DvaeDecoder}


def built(part: str) -> DvaeEncoder | DvaeDecoder:
    table = oracle.table(part)
    shapes = {name: tuple(tensor.shape) for name, tensor in table.items()}
    net = NETS[part](DvaeConfig.from_config(config_of(shapes, part)))
    net.load_state_dict(table, strict=True)
    return net.requires_grad_(False).eval()


@pytest.mark.parametrize("part", NETS)
def test_full_size_nets_have_the_published_tensors(part: str) -> None:
    published = json.loads((Path(__file__).parent / "published_keys" / f"dvae_{part}.json").read_text())
    shapes = {name: tuple(shape) for name, shape in published["state_dict"].items()}
    with torch.device("meta"):
        net = NETS[part](DvaeConfig.from_config(config_of(shapes, part)))
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} == shapes
    assert sum(tensor.numel() for tensor in net.parameters()) == published["num_parameters"]


@pytest.mark.parametrize("size", [(64, 64), (32, 48)])
def test_the_encoder_gives_the_logits_of_the_reference(size: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    found, wanted = built("encoder")(squeeze(pixels)), oracle.logits(oracle.table("encoder"), 0.8 * pixels + 0.1)
    assert torch.equal(found.argmax(dim=1), wanted.argmax(dim=1))
    # sums of float32 in another order
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("size", [(8, 8), (3, 5)])
def test_the_decoder_gives_the_statistics_of_the_reference(size: tuple[int, int]) -> None:
    codes = torch.randint(oracle.VOCABULARY, (2, *size), generator=torch.Generator().manual_seed(1))
    found, wanted = built("decoder")(codes), oracle.statistics(oracle.table("decoder"), codes)
    assert found.shape == (2, 6, 8 * size[0], 8 * size[1])
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_looking_codes_up_is_the_convolution_of_one_hot_codes_to_the_bit() -> None:
    book = Codebook(8192, 128).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for tensor in book.parameters():
        tensor.normal_(generator=generator)
    codes = torch.randint(8192, (1, 4, 5), generator=generator)
    one_hot = F.one_hot(codes, 8192).permute(0, 3, 1, 2).float()
    assert torch.equal(book(codes), F.conv2d(one_hot, book.w, book.b))


def test_unsqueezing_undoes_squeezing_and_clips_what_lies_outside() -> None:
    levels = torch.linspace(0, 1, 11)
    assert torch.allclose(unsqueeze(squeeze(levels)), levels, atol=1e-6)
    assert unsqueeze(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


BAD = {
    "no codes": {"vocab_size": 0},
    "no groups": {"block_out_channels": []},
    "a width that is no multiple of 4": {"block_out_channels": [6]},
    "no codebook": {"init_channels": None},
}


@pytest.mark.parametrize("what", BAD)
def test_a_config_of_no_network_is_refused(what: str) -> None:
    good = {"vocab_size": 24, "block_out_channels": [8, 16], "layers_per_block": 2, "init_channels": 6}
    with pytest.raises(ValueError, match=r"there are no|multiple of 4|missing init_channels"):
        DvaeDecoder(DvaeConfig.from_config(good | BAD[what]))


@torch.inference_mode()
def test_patches_are_positions_of_more_channels_and_a_code_stands_for_one() -> None:
    shape = {"vocab_size": 7, "block_out_channels": [8], "residual_gain": 1.0, "patch_size": 4}
    encoder = DvaeEncoder(DvaeConfig.from_config(shape | {"layers_per_block": 0}))
    decoder = DvaeDecoder(DvaeConfig.from_config(shape | {"layers_per_block": 1, "init_channels": 3}))
    for weight in (*encoder.parameters(), *decoder.parameters()):
        torch.nn.init.normal_(weight, std=0.1)
    pixels = torch.rand(2, 3, 8, 16)
    logits = encoder(pixels)
    assert logits.shape == (2, 7, 2, 4)
    # A patch alone decides its logits, and codes far away nothing of it.
    alone = encoder(pixels[:, :, :4, 4:8])
    # sums of float32 in another order
    torch.testing.assert_close(logits[:, :, :1, 1:2], alone, rtol=0, atol=1e-5)
    assert not any("block" in key.removeprefix("blocks") for key in encoder.state_dict())
    assert decoder(logits.argmax(dim=1)).shape == (2, 6, 8, 16)


@pytest.mark.parametrize(("field", "value"), [("patch_size", 0), ("layers_per_block", 0)])
def test_no_patches_and_no_blocks_with_the_published_gain_are_refused(field: str, value: int) -> None:
    shape = {"vocab_size": 7, "block_out_channels": [8], "layers_per_block": 1}
    with pytest.raises(ValueError, match=r"patch_size is 0|no blocks"):
        DvaeConfig.from_config(shape | {field: value})


@pytest.mark.skipif(not can_prepack(), reason="this torch, or this processor, has not got the operations")
@pytest.mark.parametrize("part", NETS)
@torch.inference_mode()
def test_with_prepacked_layers_it_computes_the_same(part: str) -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.rand(2, 3, 32, 48, generator=draw) if part == "encoder" else torch.randint(24, (2, 4, 6), generator=draw)
    net, wanted = built(part), built(part)(x)
    prepack(net)
    for _ in range(2):
        # sums of float32 in another order
        assert (net(x) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@torch.inference_mode()
def test_bfloat16_is_computed_in_float32_where_the_processor_cannot() -> None:
    net, codes = built("decoder").to(torch.bfloat16), torch.arange(24).view(1, 4, 6)
    multiply_in_single(net)
    wanted = oracle.statistics(oracle.table("decoder"), codes)
    assert net(codes).dtype == torch.bfloat16
    # eight bits of precision, through 24 convolutions
    assert (net(codes) - wanted).abs().max() <= 0.05 * wanted.abs().max()
