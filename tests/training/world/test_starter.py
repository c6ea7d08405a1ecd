"""The starter's training from end to end, at a size that takes seconds: what comes out is a model."""

import filecmp
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dallecli.errors import BadSetting, NotDownloaded
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials
from dallecli.training.machine import Machine
from dallecli.training.preset_file import load_preset
from dallecli.training.stages.clip import recall, rescale
from dallecli.training.world.evaluate import evaluate, frechet, nearest_distances
from dallecli.training.world.judge import _places
from dallecli.training.world.starter import Workshop

CPU = Machine(torch.device("cpu"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A tiny starter, every stage trained for half a second."""
    shop = Workshop(load_preset("tiny"), tmp_path_factory.mktemp("state"), CPU)
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
    for name in ("cpu", "looks", "gpu", "tiny"):
        preset = load_preset(name)
        upsamplers = ["upsampler", "upsampler_2"][: len(preset.upsamplers)]
        priors = ["prior"] if preset.autoregressive_prior is None else ["prior", "autoregressive_prior"]
        assert list(preset.runs) == ["clip", *priors, "decoder", *upsamplers, "judge"]


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadSetting) as refused:
        load_preset("huge")
    assert "tiny" in str(refused.value.hint)


def test_a_stage_refuses_to_start_before_the_one_it_reads(tmp_path: Path) -> None:
    with pytest.raises(NotDownloaded) as refused:
        Workshop(load_preset("tiny"), tmp_path, CPU).train_stage("prior")
    assert "dalle train starter --stage clip" in str(refused.value.hint)


def test_clip_is_not_moved_once_others_depend_on_it(workshop: Workshop) -> None:
    state = workshop.chain.state_file("clip").read_bytes()
    folders = ", ".join(str(workshop.folder / name) for name in ("prior", "decoder"))
    folders = f"{folders} and {workshop.folder / 'upsampler'}"
    assert workshop.train_stage("clip", seconds=1e6) == (
        f"prior, decoder and upsampler depend on it; remove {folders} to train it again"
    )
    assert workshop.chain.state_file("clip").read_bytes() == state


def test_clip_embeddings_have_a_root_mean_square_of_one(workshop: Workshop) -> None:
    embeddings, captions = workshop.chain.conditions()
    # Scaled on 48 pictures of the training pool, measured on those and as many others.
    assert embeddings.square().mean().sqrt().item() == pytest.approx(1, abs=0.2)
    assert captions.mask[0].sum().item() == 2  # the empty caption is a start and an end token


def test_scaling_clip_changes_neither_what_is_close_nor_what_is_read(workshop: Workshop) -> None:
    objective = workshop.chain.open("clip").objective
    before = objective.validate()
    rescale(objective.towers, objective.train.pictures[:1024])
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
    from dallecli.studio.engine import LocalEngine
    from dallecli.tasks.generate import Generate
    from dallecli.tasks.stages import Dials

    engine = LocalEngine()
    two = Dials(steps=2)
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
    figures = workshop.chain.open("judge").objective.validate()
    assert set(figures) == {"objects", "all_objects", "number", "background", "style"}
    assert all(0 <= value <= 1 for value in figures.values())


@pytest.mark.long
def test_a_model_is_evaluated_in_every_kind_and_shown_uncurated(
    workshop: Workshop, folder: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    figures = evaluate(
        workshop,
        Generate(prompt="x", model=str(folder), decoder=Dials(steps=2), prior=Dials(steps=2), upsampler=Dials(steps=2)),
        count=3,
        out=tmp_path,
        watch=lambda done, of: seen.append((done, of)),
    )
    # Three of each kind and of the large ones, and two seeds of each of 24 captions.
    assert seen[0] == (1, 72) and seen[-1] == (72, 72)
    shares = {"single_objects", "background_background", "pair_all_objects", "pair_relation", "style_style"}
    shares |= {"seen_pair_all_objects", "count_number", "single_number"}
    shares |= {f"drawn_{name}" for name in shares}
    shares |= {f"clip_{way}_{first}" for way in ("text_to_image", "image_to_text") for first in (1, 5)}
    assert all(0 <= figures[name] <= 1 for name in shares)
    assert {"frechet", "drawn_frechet", "nearest", "drawn_nearest"} <= set(figures)
    assert {"variety_spread", "variety_ground_spread", "detail_energy", "detail_frechet"} <= set(figures)
    names = ("single", "background", "pair", "seen_pair", "style", "count", "anything", "variety", "detail")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{end}" for name in names for end in ("png", "txt")}


@pytest.mark.long
def test_one_kind_is_judged_alone(workshop: Workshop, folder: Path) -> None:
    ask = Generate(
        prompt="x", model=str(folder), decoder=Dials(steps=2), prior=Dials(steps=2), upsampler=Dials(steps=2)
    )
    figures = evaluate(workshop, ask, count=1, kinds=["single"])
    assert {name.split("_")[0] for name in figures} == {"single", "drawn", "clip"}


def test_the_frechet_distance_of_gaussians_is_its_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(200_000, 2, generator=generator)
    b = torch.randn(200_000, 2, generator=generator) * torch.tensor([2.0, 3.0]) + torch.tensor([1.0, 0.0])
    # |mean|^2 + sum (1 - s)^2 = 1 + 1 + 4; a deviation estimated from n samples is off by 1 / sqrt(2 n).
    assert frechet(a, b) == pytest.approx(6, abs=0.1)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_the_nearest_picture_is_found_across_chunks() -> None:
    known = torch.zeros(9000, 3, 4, 4, dtype=torch.uint8)
    known[8500] = 200
    found = nearest_distances(torch.full((1, 3, 4, 4), 190.0), known)
    assert found.tolist() == pytest.approx([10.0])


def test_the_judge_places_a_thing_where_its_cells_light_up() -> None:
    logits = torch.full((1, 2, 8, 8), -20.0)
    logits[0, 0, 0, 7] = logits[0, 1, 7, 0] = 20.0
    assert _places(logits)[0].tolist() == [[pytest.approx(1), pytest.approx(0)], [pytest.approx(0), pytest.approx(1)]]


def test_recall_counts_every_right_answer_among_the_first() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.9, 0.8, 0.1], [0.3, 0.2, 0.1]])
    right = torch.eye(3, dtype=torch.bool)
    assert recall(scores, right, 1) == pytest.approx(1 / 3)
    assert recall(scores, right, 2) == pytest.approx(2 / 3)
    right[2, 0] = True
    assert recall(scores, right, 1) == pytest.approx(2 / 3)


# From a model


@pytest.fixture
def tuned(folder: Path, tmp_path: Path) -> Workshop:
    """A tiny starter that goes on from the weights of another one."""
    return Workshop(load_preset("tiny"), tmp_path / "tuned", CPU, str(folder))


@pytest.mark.parametrize("stage", ["clip", "prior", "decoder", "upsampler", "upsampler_2"])
def test_a_stage_begins_at_the_weights_of_the_model(tuned: Workshop, folder: Path, stage: str) -> None:
    run = tuned.chain.open(stage)
    assert (run.counters.step, run.counters.averaged) == (0, 2000)
    assert not any(run.optimizer.moments(weight) for weight in run.weights)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(run.average, run.weights, strict=True))
    for part, net in tuned.chain.stages[stage].networks(run.objective.module).items():
        (file,) = (folder / part).glob("*.safetensors")
        theirs = load_file(file)
        assert all(torch.equal(weight, theirs[name].float()) for name, weight in net.state_dict().items()), part


def test_the_average_of_a_models_weights_starts_slow(tuned: Workshop) -> None:
    run = tuned.chain.open("upsampler")
    before = run.average[0].clone()
    run.train(math.inf, steps=1)
    # (1 + 2000) / (10 + 2000) of it stays; without a model nine tenths of it would be those of the first step.
    assert torch.allclose(run.average[0] - before, (run.weights[0] - before) * 9 / 2010, atol=1e-7)


@pytest.mark.long
def test_a_locked_image_encoder_stays_what_it_is_while_captions_learn(folder: Path, tmp_path: Path) -> None:
    shop = Workshop(load_preset("tiny"), tmp_path / "locked", CPU, str(folder), locked=True)
    began = shop.chain.open("clip").objective.validate()
    assert shop.train_stage("clip", seconds=3) is None
    ended = shop.chain.open("clip").objective.validate()
    assert ended["apart"] < began["apart"]
    shop.export(tmp_path / "out")
    same = {
        part: filecmp.cmp(folder / part / "model.safetensors", tmp_path / "out" / part / "model.safetensors", False)
        for part in ("image_encoder", "text_encoder")
    }
    assert same == {"image_encoder": True, "text_encoder": False}
    # It goes on as it was begun, whether that is said again or not, and never without the model that it was begun with.
    for said, seconds in ((True, 3.2), (False, 3.4)):
        again = Workshop(load_preset("tiny"), tmp_path / "locked", CPU, str(folder), locked=said)
        assert again.train_stage("clip", seconds=seconds) is None
        again.export(tmp_path / "again")
        parts = [tmp_path / "again" / "image_encoder", folder / "image_encoder"]
        assert filecmp.cmp(*(part / "model.safetensors" for part in parts), shallow=False)
    with pytest.raises(BadSetting, match="begun here with a locked image encoder"):
        Workshop(load_preset("tiny"), tmp_path / "locked", CPU).train_stage("clip", seconds=9)


def test_an_image_encoder_that_was_trained_is_not_locked_afterwards(tuned: Workshop, folder: Path) -> None:
    tuned.train_stage("clip")
    with pytest.raises(BadSetting, match="trained here with another image encoder"):
        Workshop(load_preset("tiny"), tuned.folder, CPU, str(folder), locked=True)


def test_an_image_encoder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="a fresh image encoder cannot be locked"):
        Workshop(load_preset("tiny"), tmp_path, CPU, locked=True)


@pytest.mark.long
def test_training_from_a_model_continues_and_says_what_it_began_from(tuned: Workshop, folder: Path) -> None:
    assert tuned.train_stage("upsampler") is None
    settings = json.loads((tuned.folder / "upsampler" / "settings.json").read_text())
    assert (settings["preset"], settings["from"]) == ("tiny", str(folder))
    again = tuned.chain.open("upsampler")
    assert (again.counters.step, again.counters.averaged) == (tuned.chain.open("upsampler").counters.step, 2000)
    assert again.counters.step > 0
    assert all(again.optimizer.moments(weight) for weight in again.weights)


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("upsampler_2", {"super_res_2_first", "super_res_2_last"}),
        ("decoder", {"decoder", "text_proj"}),  # the upsampler learned from the model's own decoder, and still fits
    ],
)
@pytest.mark.long
def test_what_is_not_trained_is_exported_as_the_model_has_it(
    stage: str, parts: set[str], tuned: Workshop, folder: Path, tmp_path: Path
) -> None:
    tuned.train_stage(stage)
    tuned.export(tmp_path / "out")
    changed = {
        path.parent.name
        for path in folder.glob("*/*")
        if path.read_bytes() != (tmp_path / "out" / path.relative_to(folder)).read_bytes()
    }
    assert changed == parts


def test_a_stage_is_not_exported_from_a_model_whose_clip_is_another(tuned: Workshop, tmp_path: Path) -> None:
    tuned.train_stage("clip")
    with pytest.raises(NotDownloaded, match="the prior has not been trained"):
        tuned.export(tmp_path / "out")


def test_a_model_with_other_words_may_give_its_second_upsampler_alone(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    vocabulary = json.loads((other / "tokenizer" / "vocab.json").read_text())
    first, second = list(vocabulary)[:2]
    swapped = vocabulary | {first: vocabulary[second], second: vocabulary[first]}
    (other / "tokenizer" / "vocab.json").write_text(json.dumps(swapped))
    workshop = Workshop(load_preset("tiny"), tmp_path / "tuned", CPU, str(other))
    workshop.check_origin(["upsampler_2"])
    for stage in ("clip", "prior", "decoder", "upsampler"):
        with pytest.raises(BadSetting, match="other words"):
            workshop.check_origin([stage])
    # With a CLIP of its own that the decoder was trained on, an upsampler reads no word of the other model's.
    alone = Workshop(load_preset("tiny"), tmp_path / "tuned", CPU)
    for stage in ("clip", "decoder"):
        alone.train_stage(stage)
    workshop.check_origin(["upsampler"])


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("decoder", "layers_per_block", 2), ("prior_scheduler", "prediction_type", "epsilon")],
)
def test_a_model_that_is_not_the_presets_is_refused_by_part_and_field(
    folder: Path, tmp_path: Path, part: str, field: str, value: object
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (file,) = (other / part).glob("*config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    workshop = Workshop(load_preset("tiny"), tmp_path / "tuned", CPU, str(other))
    with pytest.raises(BadSetting, match=rf"{part}\.{field} is {value!r}, the preset tiny has"):
        workshop.check_origin(["prior", "decoder"])
    workshop.check_origin(["upsampler_2", "judge"])


def test_the_starter_that_ships_is_one_of_the_preset_it_was_trained_with(tmp_path: Path) -> None:
    workshop = Workshop(load_preset("cpu"), tmp_path, CPU, "starter")
    workshop.check_origin(workshop.chain.stages)
    with pytest.raises(BadSetting, match=r"the preset gpu has"):
        Workshop(load_preset("gpu"), tmp_path, CPU, "starter").check_origin(["upsampler"])
