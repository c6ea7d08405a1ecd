"""The starter's training from end to end, at a size that takes seconds: what comes out is a model."""

import json
from pathlib import Path

import pytest
import torch

from dallecli.errors import BadSetting, NotDownloaded
from dallecli.training.clip import rescale
from dallecli.training.evaluate import evaluate
from dallecli.training.preset import load_preset
from dallecli.training.starter import NEEDS, Workshop, train_stage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A tiny starter, every stage trained for half a second."""
    shop = Workshop(load_preset("tiny"), tmp_path_factory.mktemp("state"), CPU)
    for stage in NEEDS:
        train_stage(shop, stage)
    return shop


@pytest.fixture(scope="module")
def folder(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny starter as a model folder."""
    target = tmp_path_factory.mktemp("model") / "tiny"
    workshop.export(target)
    return target


def test_every_preset_names_every_stage_it_has_networks_for() -> None:
    for name in ("cpu", "gpu", "tiny"):
        preset = load_preset(name)
        upsamplers = ["upsampler", "upsampler_2"][: len(preset.upsamplers)]
        assert list(preset.runs) == ["clip", "prior", "decoder", *upsamplers, "judge"]


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadSetting) as refused:
        load_preset("huge")
    assert "tiny" in str(refused.value.hint)


def test_a_stage_refuses_to_start_before_the_one_it_reads(tmp_path: Path) -> None:
    with pytest.raises(NotDownloaded) as refused:
        train_stage(Workshop(load_preset("tiny"), tmp_path, CPU), "prior")
    assert "dalle train starter --stage clip" in str(refused.value.hint)


def test_clip_is_not_moved_once_the_prior_and_the_decoder_stand_on_it(workshop: Workshop) -> None:
    state = workshop.state_file("clip").read_bytes()
    assert train_stage(workshop, "clip", seconds=1e6) == (
        "prior and decoder stand on it; remove their folders to train it again"
    )
    assert workshop.state_file("clip").read_bytes() == state


def test_clip_embeddings_have_a_root_mean_square_of_one(workshop: Workshop) -> None:
    embeddings, captions = workshop.conditions
    # Scaled on 48 pictures of the training pool, measured on those and as many others.
    assert embeddings.square().mean().sqrt().item() == pytest.approx(1, abs=0.2)
    assert captions.mask[0].sum().item() == 2  # the empty caption is a start and an end token


def test_scaling_clip_changes_neither_what_is_close_nor_what_is_read(workshop: Workshop) -> None:
    objective = workshop.objective("clip")
    before = objective.validate()
    rescale(objective.towers, objective.train)
    assert objective.validate() == pytest.approx(before, rel=1e-4)  # float32, summed in another order of size


def test_the_decoder_never_learns_its_variance_channels(workshop: Workshop) -> None:
    decoder = workshop.trained("decoder").decoder
    assert decoder.conv_out.weight[3:].abs().max().item() == 0
    assert decoder.conv_out.bias[3:].tolist() == [-1, -1, -1]


def test_diffusers_paints_with_the_folder_up_to_the_first_upsampler(folder: Path) -> None:
    from tests.oracle import open_pipeline

    pipeline = open_pipeline(folder)
    image = pipeline(
        "a dog", prior_num_inference_steps=2, decoder_num_inference_steps=2, super_res_num_inference_steps=2
    )
    assert image.images[0].size == (64, 64)


def test_our_pipeline_paints_with_the_folder_through_both_upsamplers(folder: Path) -> None:
    from dallecli.request import Generate, Stage
    from dallecli.studio import LocalEngine

    engine = LocalEngine()
    two = Stage(steps=2)
    request = Generate(prompt="a dog", model=str(folder), seed=3, prior=two, decoder=two, upsampler=two)
    (picture,) = engine.paint(engine.resolve(request), lambda _: None)
    assert picture.image.size == (256, 256)


def test_the_folder_is_complete_and_in_half_precision(folder: Path) -> None:
    from safetensors import safe_open

    index = json.loads((folder / "model_index.json").read_text())
    parts = {name for name in index if not name.startswith("_")}
    assert parts <= {path.name for path in folder.iterdir()}
    for file in folder.glob("*/*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            assert {tensors.get_tensor(key).dtype for key in tensors.keys()} == {torch.float16}  # noqa: SIM118


def test_what_the_judge_says_of_drawn_scenes_is_a_share(workshop: Workshop) -> None:
    figures = workshop.objective("judge").validate()
    assert set(figures) == {"objects", "all_objects", "background", "style"}
    assert all(0 <= value <= 1 for value in figures.values())


def test_a_model_is_evaluated_in_shares_and_shown_uncurated(workshop: Workshop, folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    figures = evaluate(
        workshop, str(folder), count=1, seed=0, out=tmp_path, watch=lambda done, of: seen.append((done, of))
    )
    assert seen == [(1, 2), (2, 2)]
    assert {"single_objects", "background_background", "real_objects"} <= set(figures)
    assert all(0 <= share <= 1 for share in figures.values())
    assert {path.name for path in tmp_path.iterdir()} == {
        "single.png",
        "single.txt",
        "background.png",
        "background.txt",
    }
