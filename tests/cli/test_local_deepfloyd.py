"""Every command on a tiny random DeepFloyd IF: what it does is made again to the byte, the rest is refused by name."""

import shutil
from pathlib import Path

import if_oracle
import pytest
from PIL import Image

from dallecli.pictures.metadata import read_recipe
from dallecli.tasks.stages import DiffusionSettings

from .conftest import NO_CLIP, NO_PRIOR, Dalle, assert_refused

pytestmark = pytest.mark.usefixtures("local")

CPU = ("--device", "cpu", "--dtype", "fp32")
FAST = ("--steps", "2", "--upsampler-steps", "2", *CPU)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(if_oracle.write(tmp_path_factory.mktemp("models") / "tiny"))


EVERYTHING = {
    "generate": ["generate", "a corgi", "-n", "2", "--negative", "a bicycle"],
    "small": ["generate", "a corgi", "--size", "16"],
    "over": ["generate", "a corgi", "--init", "cat.png", "--strength", "0.6"],
    "inpaint": ["inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a corgi", "--negative", "a bicycle"],
    "without words": ["inpaint", "cat.png", "--mask", "4,4,30,30"],
    "resampled": ["inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a corgi", "--resample", "2"],
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_task_is_painted_and_made_again_byte_for_byte(dalle: Dalle, model: str, name: str) -> None:
    made = dalle(*EVERYTHING[name], *FAST, "-m", model, "-s", "7", "-q", "--layout", "files")
    assert (made.code, made.err) == (0, "")
    again = dalle("replay", made.lines[-1], "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.err) == (0, "")
    with Image.open(made.lines[-1]) as first, Image.open("again.png") as second:
        large = (64, 48) if "inpaint" in EVERYTHING[name] else (32, 32)
        assert first.size == ((16, 16) if name == "small" else large)
        assert first.tobytes() == second.tobytes()


PUBLISHED = {
    "generate": (["generate", "a corgi"], (100, 7.0), (50, 4.0)),
    "init": (["generate", "a corgi", "--init", "cat.png"], (80, 10.0), (50, 4.0)),
    "inpaint": (["inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a corgi"], (50, 7.0), (100, 4.0)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_word_every_task_takes_its_published_dials(dalle: Dalle, model: str, name: str) -> None:
    ask, decoder, upsampler = PUBLISHED[name]
    dry = dalle(*ask, "-m", model, "--dry-run", "--json")
    assert dry.code == 0
    recipe = dry.objects[0]["recipe"]
    for stage, (steps, guidance) in (("decoder", decoder), ("upsampler", upsampler)):
        assert recipe["stages"][stage] == {"sampler": "ancestral", "steps": steps, "guidance": guidance}
    assert recipe["settings"].get("strength") == (0.7 if name == "init" else None)
    assert recipe["settings"].get("resample") == (1 if name == "inpaint" else None)


def test_what_a_folder_says_of_its_dials_is_for_every_task(dalle: Dalle, model: str, tmp_path: Path) -> None:
    own = Path(shutil.copytree(model, tmp_path / "own"))
    (own / "dalle.json").write_text('{"stages": {"decoder": {"steps": 20}}}')
    for name, (ask, _, upsampler) in PUBLISHED.items():
        stages = dalle(*ask, "-m", str(own), "--dry-run", "--json").objects[0]["recipe"]["stages"]
        assert (stages["decoder"]["steps"], stages["upsampler"]["steps"]) == (20, upsampler[0]), name


def test_both_stages_have_a_guidance_of_their_own(dalle: Dalle, model: str) -> None:
    ask = ("generate", "a corgi", "--guidance", "3", "--upsampler-guidance", "2.5", "--dry-run", "--json")
    stages = dalle(*ask, "-m", model).objects[0]["recipe"]["stages"]
    assert (stages["decoder"]["guidance"], stages["upsampler"]["guidance"]) == (3.0, 2.5)
    refused = dalle(*ask, "-m", "starter")
    assert (refused.code, "reads no words" in refused.err) == (2, True), refused.err


def test_effort_changes_the_steps_of_both_stages(dalle: Dalle, model: str) -> None:
    for option, steps in (("--fast", (10, 10)), ("--best", (200, 100))):
        stages = dalle("generate", "a corgi", option, "-m", model, "--dry-run", "--json").objects[0]["recipe"]["stages"]
        assert (stages["decoder"]["steps"], stages["upsampler"]["steps"]) == steps


@pytest.mark.long
def test_steps_have_names_on_the_command_line_in_files_and_in_recipes(dalle: Dalle, model: str) -> None:
    ask = ("generate", "a corgi", "--upsampler-steps", "2", *CPU, "--size", "16", "-m", model, "-s", "1")
    made = dalle(*ask, "--steps", "smart27", "-o", "named.png", "-q")
    assert (made.code, made.err) == (0, "")
    decoder = read_recipe(Path("named.png")).stages["decoder"]
    assert decoder == DiffusionSettings(sampler="ancestral", steps="smart27", guidance=7.0)
    assert "smart27 steps" in dalle("show", "named.png").out.decode()
    assert dalle("replay", "named.png", "-m", model, "-o", "again.png", "-q").code == 0
    with Image.open("named.png") as named, Image.open("again.png") as again:
        assert named.tobytes() == again.tobytes()
    Path("prompts.jsonl").write_text('{"prompt": "a corgi", "steps": "smart27"}\n')
    lined = dalle("generate", "--prompts", "prompts.jsonl", "--size", "16", *CPU, "-m", model, "-s", "1", "-q")
    assert read_recipe(Path(lined.lines[-1])).stages["decoder"] == decoder
    for option, value, words in (
        ("--steps", "smart28", "smart27, smart50"),
        ("--upsampler-steps", "many", "'--upsampler-steps': 'many' is not a whole number, and not one of fast27"),
        ("--sampler", "plms", "evenly spaced"),
    ):
        refused = dalle(*ask, "--steps", "smart27", option, value, "-q")
        assert (refused.code, words in refused.err) == (2, True), refused.err


REFUSED = {
    "vary": (["vary", "cat.png"], "cannot vary"),
    "interpolate": (["interpolate", "a corgi", "a bicycle"], "cannot interpolate"),
    "edit": (["edit", "cat.png", "--from", "a corgi", "--to", "a bicycle"], "cannot edit"),
    **NO_CLIP,
    **NO_PRIOR,
    "size": (["generate", "a corgi", "--size", "20"], "it paints 16, 32"),
    "steps": (["generate", "a corgi", "--steps", "1001"], "1001 decoder steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_refused_by_name(dalle: Dalle, model: str, name: str) -> None:
    assert_refused(dalle(*REFUSED[name][0], "-m", model, "-q"), REFUSED[name][1])


def test_the_end_of_a_long_prompt_is_named_or_refused(dalle: Dalle, model: str) -> None:
    prompt = " ".join(["a"] * 76 + ["umbrella", "artist"])  # each "a" is a token, and 77 are read with the end
    painted = dalle("generate", prompt, *FAST, "--size", "16", "-m", model, "-o", "x.png")
    assert painted.code == 0
    assert "umbrella artist" in painted.err
    assert read_recipe(Path("x.png")).dropped == ("umbrella", "artist")
    refused = dalle("generate", prompt, *FAST, "--strict", "-m", model, "-o", "y.png")
    assert (refused.code, "would not read the end" in refused.err) == (2, True)


def test_a_first_stage_alone_paints_small_pictures_and_says_so(dalle: Dalle, model: str, tmp_path: Path) -> None:
    alone = shutil.copytree(model, tmp_path / "alone")
    shutil.rmtree(alone / "super_res")
    made = dalle("generate", "a corgi", "--steps", "2", *CPU, "-m", str(alone), "-o", "x.png", "-q")
    assert (made.code, made.err) == (0, "")
    with Image.open("x.png") as image:
        assert image.size == (16, 16)
    for option, value, words in (("--size", "32", "it paints 16"), ("--upsampler-steps", "5", "has no upsampler")):
        refused = dalle("generate", "a corgi", option, value, "-m", str(alone), "-q")
        assert (refused.code, words in refused.err) == (2, True), refused.err
    half = shutil.copytree(model, tmp_path / "half")
    shutil.rmtree(half / "super_res" / "image_noising_scheduler")
    refused = dalle("generate", "a corgi", "-m", str(half), "-q")
    assert (refused.code, "super_res/image_noising_scheduler is missing" in refused.err) == (3, True), refused.err


def test_a_dry_run_and_the_doctor_know_its_memory_and_one_network_at_a_time_paints_the_same(
    dalle: Dalle, model: str
) -> None:
    dry = dalle("generate", "a corgi", "-m", model, "--dry-run", "--json")
    assert dry.code == 0
    doctor = dalle("doctor", "--model", model)
    assert (doctor.code, "at most" in doctor.out.decode()) == (0, True)
    ask = ("generate", "a corgi", *FAST, "-m", model, "-s", "3", "--no-metadata", "-o")
    assert dalle(*ask, "low.png", "--memory", "low").code == 0
    assert dalle(*ask, "high.png").code == 0
    assert Path("low.png").read_bytes() == Path("high.png").read_bytes()


def test_a_prompt_file_is_painted_and_goes_on(dalle: Dalle, model: str) -> None:
    Path("prompts.txt").write_text("a corgi\na bicycle\n")
    ask = ("generate", "--prompts", "prompts.txt", *FAST, "--size", "16", "-m", model, "-s", "1", "--out", "out", "-q")
    first = dalle(*ask)
    assert first.code == 0, first.err
    pictures = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    assert len(pictures) == 2
    name = sorted(pictures)[0]
    (Path("out") / name).unlink()
    assert dalle(*ask).code == 0
    assert (Path("out") / name).read_bytes() == pictures[name]


CONTRADICTIONS = {
    "another tower": ("text_encoder/config.json", '"d_model": 32', '"d_model": 64', "width of text states"),
    "channels": ("unet/config.json", '"in_channels": 3', '"in_channels": 6', "6 channels in"),
    "no variance": ("unet/config.json", '"out_channels": 6', '"out_channels": 3', "3 out"),
    "an upsampler that is not told": (
        "super_res/unet/config.json",
        '"class_embed_type": "timestep"',
        '"class_embed_type": null',
        "so is no upsampler",
    ),
    "another kind": ("unet/config.json", '"act_fn": "gelu"', '"act_fn": "relu"', "act_fn is 'relu'"),
    "a short schedule": (
        "super_res/image_noising_scheduler/scheduler_config.json",
        '"num_train_timesteps": 1000',
        '"num_train_timesteps": 200',
        "no timestep 250",
    ),
    "heads": ("unet/config.json", '"attention_head_dim": 32', '"attention_head_dim": 48', "attention_head_dim"),
    "a schedule": (
        "super_res/image_noising_scheduler/scheduler_config.json",
        '"beta_schedule": "squaredcos_cap_v2"',
        '"beta_schedule": "sigmoid"',
        "beta_schedule is 'sigmoid'",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_parts_that_contradict_each_other_are_named_before_anything_is_painted(
    dalle: Dalle, model: str, tmp_path: Path, name: str
) -> None:
    file, before, after, words = CONTRADICTIONS[name]
    broken = shutil.copytree(model, tmp_path / "broken")
    text = (broken / file).read_text()
    assert before in text
    (broken / file).write_text(text.replace(before, after))
    refused = dalle("generate", "a corgi", *FAST, "-m", str(broken), "-q")
    assert (refused.code, words in refused.err) == (3, True), refused.err
    assert len(refused.err.splitlines()) <= 3
