"""The starter of DALL·E 1's kind from end to end, at a size that takes seconds: what comes out is a model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dallecli.errors import BadSetting, NotDownloaded
from dallecli.source import read_source
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.coding import Coding
from dallecli.tasks.generate import Generate
from dallecli.training.machine import Machine
from dallecli.training.token_preset import load_token_preset, token_stages
from dallecli.training.world.starter import Workshop
from dallecli.weights.folder import Folder
from dallecli.weights.known import read_words

CPU = Machine(torch.device("cpu"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A tiny starter, every stage trained for a moment."""
    shop = Workshop(load_token_preset("tokens-tiny"), tmp_path_factory.mktemp("state"), CPU)
    for stage in shop.chain.stages:
        shop.train_stage(stage)
    return shop


@pytest.fixture(scope="module")
def folder(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny starter as a model folder."""
    target = tmp_path_factory.mktemp("model") / "tiny"
    workshop.export(target)
    return target


def test_every_preset_names_every_stage_it_has_networks_for() -> None:
    for name in ("tokens", "tokens-tiny"):
        preset = load_token_preset(name)
        assert list(preset.runs) == list(token_stages(preset)) == ["dvae", "transformer"]


def test_a_stage_refuses_to_start_before_the_one_it_reads(tmp_path: Path) -> None:
    with pytest.raises(NotDownloaded) as refused:
        Workshop(load_token_preset("tokens-tiny"), tmp_path, CPU).train_stage("transformer")
    assert "dalle train starter-tokens --stage dvae" in str(refused.value.hint)


def test_the_codes_stay_once_a_transformer_writes_them(workshop: Workshop) -> None:
    assert "transformer depend on it" in str(workshop.train_stage("dvae", 1e9))


def test_the_folder_is_whole_in_half_precision_and_knows_its_words(folder: Path) -> None:
    assert Folder(folder).layout == "dalle-1"
    for file in folder.rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}, file
    words = read_words(folder)
    assert words is not None and words.unknown(["a blue zeppelin"]) == ("zeppelin",)


def test_the_folder_paints_and_its_autoencoder_is_the_one_that_was_trained(
    workshop: Workshop, folder: Path, tmp_path: Path
) -> None:
    engine = LocalEngine()
    recipe = engine.resolve(Generate(prompt="a blue dog", model=str(folder), seed=3, device="cpu"))
    (picture,) = engine.paint(recipe, lambda _: None)
    assert picture.image.size == (64, 64)
    scene = np.array(workshop.dataset.held_out_pool.pictures[64][0])
    Image.fromarray(scene).save(tmp_path / "scene.png")
    asked = Coding(task="encode", inputs=(read_source(str(tmp_path / "scene.png")),), model=str(folder), device="cpu")
    (coded,) = engine.encode(asked, lambda _: None)
    dvae = workshop.trained("dvae")
    codes = dvae.codes(torch.from_numpy(scene).permute(2, 0, 1)[None])
    assert coded.codes.shape == (8, 8)
    # Two of many codes may be equally near once the weights are in half precision.
    assert np.mean(coded.codes == codes[0].numpy()) > 0.9


def test_training_from_a_model_keeps_its_codes(folder: Path, tmp_path: Path) -> None:
    shop = Workshop(load_token_preset("tokens-tiny"), tmp_path, CPU, str(folder))
    assert list(shop.chain.stages) == ["dvae", "transformer"]
    shop.check_origin(shop.chain.stages)
    shop.train_stage("dvae")
    before = load_file(folder / "dvae_encoder" / "model.safetensors")
    after = shop.trained("dvae").encoder.state_dict()
    assert all(torch.equal(after[key], value.float()) for key, value in before.items())


def test_a_model_of_other_sizes_is_refused_by_part_and_field(folder: Path, tmp_path: Path) -> None:
    shop = Workshop(load_token_preset("tokens"), tmp_path, CPU, str(folder))
    with pytest.raises(BadSetting, match=r"dvae_encoder\.vocab_size is 16, the preset tokens has 1024"):
        shop.check_origin(["dvae"])
