"""Three repositories side by side are one model, whose parts have names as in any other."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dallecli.errors import BadFile, BadFolder
from dallecli.size import Size
from dallecli.weights.folder import Folder
from weights.model_folder import write_json

FOUR_LEVELS = [32, 32, 64, 64]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that is right in every file and far too small to paint."""
    folder = tmp_path / "kandinsky"
    prior = folder / "kandinsky-2-2-prior"
    write_json(prior / "model_index.json", {"_class_name": "KandinskyV22PriorPipeline"})
    for part, config in (("text_encoder", {}), ("prior", {}), ("image_encoder", {"projection_dim": 6})):
        _network(prior / part, config)
    write_json(prior / "scheduler" / "scheduler_config.json", {"_class_name": "UnCLIPScheduler"})
    write_json(prior / "tokenizer" / "vocab.json", {"a": 0})
    write_json(prior / "image_processor" / "preprocessor_config.json", {"size": 224})
    for name in ("kandinsky-2-2-decoder", "kandinsky-2-2-decoder-inpaint"):
        write_json(folder / name / "model_index.json", {"_class_name": "KandinskyV22Pipeline"})
        _network(folder / name / "unet", {"sample_size": 64, "block_out_channels": FOUR_LEVELS})
        _network(folder / name / "movq", {"latent_channels": 4, "block_out_channels": FOUR_LEVELS})
        write_json(folder / name / "scheduler" / "scheduler_config.json", {"steps_offset": 1})
    return folder


def _network(folder: Path, config: dict[str, object]) -> None:
    write_json(folder / "config.json", config)
    stem = "model" if folder.name.endswith("_encoder") else "diffusion_pytorch_model"
    save_file({"weight": torch.arange(6.0)}, folder / f"{stem}.safetensors")


def test_parts_have_one_name_and_lie_where_they_were_published(model):
    folder = Folder(model)
    assert folder.layout == "kandinsky"
    assert folder.tasks == ("generate", "vary", "interpolate", "inpaint", "edit")
    assert folder.networks == (
        *("text_encoder", "prior", "image_encoder"),
        *("decoder", "movq", "inpaint_decoder", "inpaint_movq"),
    )
    assert folder.weights_file("decoder").parent == model / "kandinsky-2-2-decoder" / "unet"
    assert folder.config("prior_scheduler") == {"_class_name": "UnCLIPScheduler"}
    assert folder.preprocessing() == {"size": 224}
    assert folder.parameters() == 7 * 6


def test_sizes_are_those_of_pictures_and_noise_is_that_of_latents(model):
    folder = Folder(model)
    assert (folder.sizes(), folder.largest(), folder.cell(), folder.grid()) == ((512,), 2048, 8, 64)
    assert folder.noise_shape(Size.square(512)) == (4, 64, 64)
    assert folder.noise_shape(Size.square(513)) == (4, 72, 72)
    assert folder.width() == 6


def test_an_offset_leaves_fewer_steps(model):
    assert Folder(model).trained_steps("decoder") == 999
    assert Folder(model).trained_steps("prior") == 1000


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ("kandinsky-2-2-decoder", ("inpaint",)),
        ("kandinsky-2-2-decoder-inpaint", ("generate", "vary", "interpolate", "edit")),
    ],
)
def test_either_decoder_may_be_missing(model, missing, left):
    shutil.rmtree(model / missing)
    folder = Folder(model)
    assert folder.tasks == left
    assert folder.sizes() == (512,)
    assert folder.trained_steps("decoder") == 999


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("kandinsky-2-2-prior", "model_index.json is missing"),
        ("kandinsky-2-2-prior/text_encoder", "kandinsky-2-2-prior/text_encoder is missing"),
        ("kandinsky-2-2-decoder/movq", "kandinsky-2-2-decoder/movq is missing"),
        ("kandinsky-2-2-decoder-inpaint/scheduler", "kandinsky-2-2-decoder-inpaint/scheduler is missing"),
    ],
)
def test_a_repository_comes_whole(model, missing, words):
    shutil.rmtree(model / missing)
    with pytest.raises(BadFolder, match=words):
        Folder(model)


def test_without_a_decoder_nothing_is_painted(model):
    shutil.rmtree(model / "kandinsky-2-2-decoder")
    shutil.rmtree(model / "kandinsky-2-2-decoder-inpaint")
    with pytest.raises(BadFolder, match="paints nothing without kandinsky-2-2-decoder/unet or"):
        Folder(model)


@pytest.mark.parametrize("name", ["kandinsky-2-2-prior", "kandinsky-2-2-decoder", "kandinsky-2-2-decoder-inpaint"])
def test_one_of_the_three_is_no_model_by_itself(model, name):
    with pytest.raises(BadFolder) as raised:
        Folder(model / name)
    assert raised.value.hint == "give the folder that holds them all"


@pytest.mark.parametrize(
    ("part", "config", "act"),
    [
        ("kandinsky-2-2-decoder/movq", {"block_out_channels": []}, "sizes"),
        ("kandinsky-2-2-decoder/movq", {"block_out_channels": [8] * 99}, "cell"),
        ("kandinsky-2-2-decoder/unet", {"block_out_channels": "many"}, "grid"),
        ("kandinsky-2-2-decoder/unet", {"sample_size": 4096, "block_out_channels": FOUR_LEVELS}, "sizes"),
        ("kandinsky-2-2-prior/image_encoder", {}, "width"),
    ],
)
def test_a_description_that_makes_no_sense_names_its_file(model, part, config, act):
    write_json(model / part / "config.json", config)
    with pytest.raises(BadFile) as raised:
        getattr(Folder(model), act)()
    assert raised.value.where == str(model / part / "config.json")


def test_the_digest_depends_on_all_three(model):
    digest = Folder(model).digest()
    write_json(model / "kandinsky-2-2-decoder-inpaint" / "scheduler" / "scheduler_config.json", {"steps_offset": 0})
    assert Folder(model).digest() != digest
