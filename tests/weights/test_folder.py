"""A folder is a model, or says in three lines why not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dallecli.errors import BadFile, BadFolder, WeightsError
from dallecli.weights.folder import Folder
from weights.model_folder import write_json, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def refusal(act: Callable[[], object]) -> WeightsError:
    with pytest.raises(WeightsError) as raised:
        act()
    assert raised.value.exit_code == 3
    assert len(raised.value.lines()) <= 3
    return raised.value


def test_a_whole_folder_names_its_parts(model: Path) -> None:
    folder = Folder(model)
    assert folder.layout == "karlo"
    assert folder.networks == ("text_encoder", "prior", "text_proj", "decoder", "super_res_first", "super_res_last")
    assert "tokenizer" in folder.parts
    assert "image_encoder" not in folder.parts
    assert folder.sizes() == (16, 64)


def test_the_parts_of_a_second_upsampler_make_two(tmp_path: Path) -> None:
    folder = Folder(write_model(tmp_path / "cascade", second=True))
    assert folder.sizes() == (16, 64, 256)
    assert folder.networks[-2:] == ("super_res_2_first", "super_res_2_last")
    assert "super_res_2_scheduler" in folder.parts


def test_half_a_second_upsampler_is_a_missing_part(tmp_path: Path) -> None:
    model = write_model(tmp_path / "cascade", second=True)
    shutil.rmtree(model / "super_res_2_last")
    assert "super_res_2_last is missing" in refusal(lambda: Folder(model)).what


def test_an_image_tower_is_found_where_there_is_one(model: Path) -> None:
    (model / "image_encoder").mkdir()
    assert "image_encoder" in Folder(model).networks


def test_an_empty_folder_is_called_empty(tmp_path: Path) -> None:
    error = refusal(lambda: Folder(tmp_path))
    assert isinstance(error, BadFolder)
    assert "empty" in error.what
    assert error.where == str(tmp_path)


def test_a_folder_of_something_else_misses_its_index(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    assert "model_index.json is missing" in refusal(lambda: Folder(tmp_path)).what


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "karlo.ckpt").touch()
    assert "a file, not a model folder" in refusal(lambda: Folder(tmp_path / "karlo.ckpt")).what


def test_a_folder_that_is_gone_is_no_folder(tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(lambda: Folder(tmp_path / "gone")).what


@pytest.mark.parametrize("pipeline", ["StableDiffusionPipeline", "UnCLIPImg2ImgPipeline", None, 7, ["UnCLIP"]])
def test_another_kind_of_model_is_named(model: Path, pipeline: object) -> None:
    write_json(model / "model_index.json", {"_class_name": pipeline})
    error = refusal(lambda: Folder(model))
    assert repr(pipeline) in error.what
    assert "UnCLIPPipeline" in str(error.hint)


@pytest.mark.parametrize(
    "part", ["prior", "decoder", "text_encoder", "tokenizer", "decoder_scheduler", "super_res_last"]
)
def test_a_missing_part_is_named(model: Path, part: str) -> None:
    shutil.rmtree(model / part)
    assert refusal(lambda: Folder(model)).what == f"the part {part} is missing from this model"


@pytest.mark.parametrize(
    "text", ["{", "", "[]", "<html></html>", '{"a": NaN}', "[" * 100_000, '{"a": 1' + "0" * 5000 + "}"]
)
@pytest.mark.parametrize("name", ["model_index.json", "prior/config.json"])
def test_broken_json_is_refused_with_its_path(model: Path, name: str, text: str) -> None:
    (model / name).write_text(text)
    error = refusal(lambda: Folder(model).config("prior"))
    assert isinstance(error, BadFile)
    assert error.where == str(model / name)


def test_json_that_is_not_text_is_refused(model: Path) -> None:
    (model / "prior" / "config.json").write_bytes(b"\xff\xfe{\x00}\x00")
    assert "not valid JSON" in refusal(lambda: Folder(model).config("prior")).what


def test_a_film_saved_as_config_is_not_read_to_its_end(model: Path) -> None:
    os.truncate(model / "prior" / "config.json", 2**33)
    assert "it has more than 1 MiB" in refusal(lambda: Folder(model).config("prior")).what


def test_a_missing_config_is_named(model: Path) -> None:
    (model / "prior" / "config.json").unlink()
    assert "config.json of prior is missing" in refusal(lambda: Folder(model).config("prior")).what
    (model / "prior_scheduler" / "scheduler_config.json").unlink()
    assert "scheduler_config.json" in refusal(lambda: Folder(model).config("prior_scheduler")).what


def test_of_a_doubled_key_the_last_one_counts_as_in_published_configs(model: Path) -> None:
    (model / "prior" / "config.json").write_text('{"architectures": ["X"], "architectures": null}')
    assert Folder(model).config("prior") == {"architectures": None}


@pytest.mark.parametrize(
    "config",
    [
        {"num_layers": 10**9},
        {"num_layers": -600},
        {"hidden_size": 2**62},
        {"block_out_channels": [16, 10**12]},
        {"x": 1e30},
    ],
)
def test_numbers_that_no_network_has_are_refused_before_one_is_built(model: Path, config: dict[str, object]) -> None:
    write_json(model / "prior" / "config.json", config)
    assert f"{next(iter(config))} is " in refusal(lambda: Folder(model).config("prior")).what


@pytest.mark.parametrize("size", [None, 0, -16, 1.5, "64", True, 100_000])
def test_an_impossible_picture_size_is_refused(model: Path, size: object) -> None:
    write_json(model / "decoder" / "config.json", {"sample_size": size})
    assert "the sample_size of decoder" in refusal(Folder(model).sizes).what


def test_an_upsampler_that_does_not_enlarge_is_refused(model: Path) -> None:
    write_json(model / "super_res_first" / "config.json", {"sample_size": 16})
    assert "the sample_size of super_res_first cannot be 16" in refusal(Folder(model).sizes).what


def test_the_trained_steps_of_a_stage_are_its_schedules(model: Path) -> None:
    folder = Folder(model)
    assert folder.trained_steps("prior") == 1000  # left out by published schedules
    write_json(model / "super_res_scheduler" / "scheduler_config.json", {"num_train_timesteps": 200})
    assert folder.trained_steps("upsampler") == 200


@pytest.mark.parametrize("steps", [0, 1, -5, 2.5, "many", None])
def test_an_impossible_number_of_trained_steps_is_refused(model: Path, steps: object) -> None:
    write_json(model / "prior_scheduler" / "scheduler_config.json", {"num_train_timesteps": steps})
    error = refusal(lambda: Folder(model).trained_steps("prior"))
    assert "num_train_timesteps of prior_scheduler" in error.what


def test_weights_are_found_under_the_names_of_both_libraries_and_in_half_precision(model: Path) -> None:
    folder = Folder(model)
    assert folder.weights_file("text_encoder").name == "model.safetensors"
    plain = folder.weights_file("prior")
    half = plain.with_name("diffusion_pytorch_model.fp16.safetensors")
    shutil.copy(plain, half)
    assert folder.weights_file("prior") == plain
    plain.unlink()
    assert folder.weights_file("prior") == half


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "prior.ckpt", "weights.pt"])
def test_pickled_weights_are_refused_and_not_opened(model: Path, name: str) -> None:
    plain = Folder(model).weights_file("prior")
    plain.rename(plain.with_name(name))
    error = refusal(lambda: Folder(model).weights_file("prior"))
    assert isinstance(error, BadFile)
    assert f"only pickled weights, {name}" in error.what
    assert "safetensors" in str(error.hint)


def test_split_weights_without_their_index_are_refused(model: Path) -> None:
    plain = Folder(model).weights_file("prior")
    plain.rename(plain.with_name("diffusion_pytorch_model-00001-of-00002.safetensors"))
    error = refusal(lambda: Folder(model).weights_file("prior"))
    assert "such as diffusion_pytorch_model-00001-of-00002.safetensors, but their index is missing" in error.what


def test_a_part_without_weights_is_named(model: Path) -> None:
    Folder(model).weights_file("prior").unlink()
    error = refusal(lambda: Folder(model).weights_file("prior"))
    assert isinstance(error, BadFolder)
    assert "weights of prior are missing" in error.what


def test_parameters_are_counted_from_the_headers(model: Path) -> None:
    assert Folder(model).parameters() == 6 * 6


def test_counting_finds_a_file_that_is_cut_short(model: Path) -> None:
    file = Folder(model).weights_file("decoder")
    os.truncate(file, file.stat().st_size - 4)
    error = refusal(Folder(model).parameters)
    assert "cut short" in error.what
    assert error.where == str(file)


def test_the_digest_does_not_depend_on_the_place_nor_on_the_dials(model: Path, tmp_path: Path) -> None:
    digest = Folder(model).digest()
    assert len(digest) == 64
    moved = shutil.copytree(model, tmp_path / "elsewhere")
    write_json(moved / "dalle.json", {"prior_candidates": 1})
    (moved / "README.md").write_text("hello")
    assert Folder(moved).digest() == digest


@pytest.mark.parametrize(
    "name",
    [
        "prior/config.json",
        "super_res_scheduler/scheduler_config.json",
        "tokenizer/merges.txt",
        "text_encoder/model.safetensors",
    ],
)
def test_the_digest_depends_on_every_file_that_decides_a_picture(model: Path, name: str) -> None:
    digest = Folder(model).digest()
    with (model / name).open("ab") as file:
        file.write(b" ")
    assert Folder(model).digest() != digest


def test_one_changed_number_changes_the_digest(model: Path) -> None:
    digest = Folder(model).digest()
    save_file({"weight": torch.arange(6.0).reshape(2, 3) + 1e-6}, Folder(model).weights_file("prior"))
    assert Folder(model).digest() != digest
