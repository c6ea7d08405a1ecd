"""Every command on a tiny random guided-diffusion model: what it paints is made again to the byte."""

import json
from pathlib import Path

import adm_oracle
import pytest
from PIL import Image

import dallecli
from dallecli.pictures.metadata import read_recipe
from dallecli.tasks.stages import DiffusionSettings

from .conftest import NO_CLIP, Dalle, assert_refused

pytestmark = pytest.mark.usefixtures("local")

QUICK = ("--steps", "2", "--device", "cpu", "--dtype", "fp32")
FAST = (*QUICK, "--upsampler-steps", "2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(adm_oracle.write(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("models") / "unasked"
    return str(adm_oracle.write(place, base="unconditional", parts=("classifier",)))


@pytest.fixture(scope="module")
def alone(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Without a classifier and an upsampler."""
    place = tmp_path_factory.mktemp("models") / "alone"
    return str(adm_oracle.without(Path(model), place, "classifier", "super_res", "super_res_scheduler"))


EVERYTHING = {
    "class": ["--class", "golden retriever", "-n", "2"],
    "number": ["--class", "2", "--guidance", "4"],
    "small": ["--class", "Goldfish", "--size", "16", "--sampler", "ddim"],
    "over": ["--class", "red panda", "--init", "cat.png", "--strength", "0.6"],
    "quick": ["--class", "tench", "--fast"],
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_class_is_painted_and_made_again_byte_for_byte(dalle: Dalle, model: str, name: str) -> None:
    dials = FAST if name != "quick" else FAST[2:]
    made = dalle("generate", *EVERYTHING[name], *dials, "-m", model, "-s", "7", "-q", "--layout", "files")
    assert (made.code, made.err) == (0, "")
    again = dalle("replay", made.lines[-1], "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.err) == (0, "")
    with Image.open(made.lines[-1]) as first, Image.open("again.png") as second:
        assert first.size == ((16, 16) if name == "small" else (32, 32))
        assert first.tobytes() == second.tobytes()


def test_a_class_is_recorded_by_its_own_name_and_shown(dalle: Dalle, model: str) -> None:
    made = dalle("generate", "--class", "3", *FAST, "-m", model, "-s", "1", "--json")
    assert made.code == 0
    assert Path(made.objects[0]["path"]).name == "golden-retriever-1.png"
    assert (made.objects[0]["class"], made.objects[0]["prompt"]) == ("golden retriever", "")
    shown = dalle("show", "golden-retriever-1.png").out.decode()
    assert "class" in shown and "golden retriever" in shown
    assert dalle("history", "retriever").lines
    named = dalle("generate", "--class", "Golden-Retriever", *FAST, "-m", model, "-s", "1", "-o", "named.png")
    assert named.code == 0
    assert Path("named.png").read_bytes() == Path("golden-retriever-1.png").read_bytes()


def test_a_class_whose_names_are_all_shared_goes_by_its_number(dalle: Dalle, model: str) -> None:
    assert dalle("generate", "--class", "4", *QUICK, "--size", "16", "-m", model, "-s", "1", "-o", "x.png").code == 0
    assert read_recipe(Path("x.png")).settings.class_name == "4"


def test_without_a_word_it_takes_the_published_dials(dalle: Dalle, model: str) -> None:
    dry = dalle("generate", "--class", "crane", "-m", model, "--dry-run", "--json", "--size", "16")
    assert dry.code == 2
    dry = dalle("generate", "--class", "tench", "-m", model, "--dry-run", "--json")
    assert dry.objects[0]["recipe"]["stages"] == {
        "decoder": {"sampler": "ancestral", "steps": 250, "guidance": 1.0},
        "upsampler": {"sampler": "ancestral", "steps": 250, "guidance": 1.0},
    }


def test_without_a_classifier_nothing_guides(dalle: Dalle, alone: str) -> None:
    assert dalle("generate", "--class", "tench", *QUICK, "-m", alone, "-s", "1", "-o", "x.png").code == 0
    assert read_recipe(Path("x.png")).stages == {
        "decoder": DiffusionSettings(sampler="ancestral", steps=2, guidance=0.0)
    }
    refused = dalle("generate", "--class", "tench", *QUICK, "--guidance", "2", "-m", alone)
    assert (refused.code, "has no classifier that guides" in refused.err) == (2, True)


def test_a_model_of_whatever_comes_is_asked_for_nothing(dalle: Dalle, unconditional: str) -> None:
    made = dalle("generate", *QUICK, "-m", unconditional, "-s", "1", "-o", "x.png")
    assert made.code == 0, made.err
    recipe = read_recipe(Path("x.png"))
    assert (recipe.prompt, recipe.settings.class_name, recipe.title) == ("", None, "picture")
    assert dalle("replay", "x.png", "-m", unconditional, "-o", "y.png").code == 0
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()
    led = dalle("generate", "--class", "tench", *QUICK, "-m", unconditional, "-s", "1", "-o", "led.png")
    assert led.code == 0
    assert Path("led.png").read_bytes() != Path("x.png").read_bytes()
    idle = dalle("generate", *QUICK, "--guidance", "3", "-m", unconditional, "-o", "idle.png")
    assert (idle.code, "no class is named to which it would lead" in idle.err) == (0, True)


REFUSED = {
    "a prompt": (["generate", "golden retriever"], "--class 'golden retriever'"),
    "no class": (["generate"], "paints classes, and none was named"),
    "no such class": (["generate", "--class", "golden retriver"], "did you mean golden retriever (3)?"),
    "two classes": (["generate", "--class", "crane"], "crane (2) or crane (4)"),
    "a number too high": (["generate", "--class", "6"], "they go from 0 to 5"),
    "nothing": (["generate", "--class", ""], "the text of --class is empty"),
    "both": (["generate", "a dog", "--class", "tench"], "instead of a prompt"),
    "negative": (["generate", "--class", "tench", "--negative", "a dog"], "leave out --negative"),
    "vary": (["vary", "cat.png"], "cannot vary"),
    "interpolate": (["interpolate", "a cat", "a dog"], "cannot interpolate"),
    "inpaint": (["inpaint", "cat.png", "--mask", "4,4,9,9"], "cannot inpaint"),
    "edit": (["edit", "cat.png", "--from", "a cat", "--to", "a dog"], "cannot edit"),
    **NO_CLIP,
    "best-of": (["generate", "--class", "tench", "--best-of", "2"], "has no CLIP"),
    "prior": (["generate", "--class", "tench", "--prior", "none"], "has no prior"),
    "prior steps": (["generate", "--class", "tench", "--prior-steps", "5"], "has no prior"),
    "size": (["generate", "--class", "tench", "--size", "20"], "it paints 16, 32"),
    "steps": (["generate", "--class", "tench", "--steps", "1001"], "1001 decoder steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_refused_by_name(dalle: Dalle, model: str, name: str) -> None:
    assert_refused(dalle(*REFUSED[name][0], "-m", model, "-q"), REFUSED[name][1])


def test_the_classes_are_listed_with_their_numbers(dalle: Dalle, model: str) -> None:
    listed = dalle("models", "words", model)
    assert (listed.code, listed.lines[3]) == (0, "3  golden retriever")
    first = dalle("models", "words", model, "--json").objects[0]
    assert first == {"kind": "class", "number": 0, "name": "tench", "also": ["Tinca tinca"]}


def test_a_model_that_reads_words_knows_no_classes(dalle: Dalle) -> None:
    refused = dalle("generate", "--class", "golden retriever")
    assert (refused.code, "a prompt instead of --class" in refused.err) == (2, True)
    nowhere = dalle("generate", "a dog", "-m", "adm-64")  # and nobody is sent to fetch it for this
    assert (nowhere.code, "adm-64 reads no words" in nowhere.err) == (2, True)


def test_a_line_without_words_is_for_models_that_read_none(dalle: Dalle, unconditional: str) -> None:
    Path("p.jsonl").write_text('{"seed": 1}\n')
    refused = dalle("generate", "--prompts", "p.jsonl", "--out", "words")
    assert (refused.code, "p.jsonl:1: no prompt was given" in refused.err) == (2, True)
    painted = dalle("generate", "--prompts", "p.jsonl", "--out", "out", *QUICK, "-m", unconditional, "-q")
    assert (painted.code, len(list(Path("out").glob("*-picture-*.png")))) == (0, 1)


def test_classes_are_lines_axes_and_keywords(dalle: Dalle, model: str) -> None:
    Path("p.jsonl").write_text('{"class": "tench", "seed": 1}\n{"class": 3, "seed": 2}\n{"class": "dodo"}\n')
    ask = ("generate", "--prompts", "p.jsonl", "--out", "out", *QUICK, "--size", "16", "-m", model, "-q")
    first = dalle(*ask, "--keep-going")
    assert first.code != 0 and "dodo" in first.err
    pictures = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    classes = {read_recipe(Path("out") / name).settings.class_name: name for name in pictures}
    assert set(classes) == {"golden retriever", "tench"}
    name = sorted(pictures)[0]
    (Path("out") / name).unlink()
    dalle(*ask, "--keep-going")
    assert (Path("out") / name).read_bytes() == pictures[name]
    sheet = dalle("generate", "--x", "class=tench,goldfish", *QUICK, "--size", "16", "-m", model, "-o", "sheet.png")
    assert sheet.code == 0, sheet.err
    asked = dallecli.open(model, device="cpu", dtype="fp32")
    [picture] = asked.generate(class_="tench", seed=1, steps=2, size=16)
    with Image.open(Path("out") / classes["tench"]) as same:
        assert picture.image.tobytes() == same.tobytes()


def test_a_dry_run_and_the_doctor_know_its_memory(dalle: Dalle, model: str) -> None:
    doctor = dalle("doctor", "--model", model)
    assert (doctor.code, "at most" in doctor.out.decode()) == (0, True)
    ask = ("generate", "--class", "tench", *FAST, "-m", model, "-s", "3", "--no-metadata")
    low, high = dalle(*ask, "--memory", "low", "-o", "low.png"), dalle(*ask, "-o", "high.png")
    assert (low.code, high.code) == (0, 0)
    assert Path("low.png").read_bytes() == Path("high.png").read_bytes()


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("classifier", {"sample_size": 32}, "side"),
        ("super_res", {"num_class_embeds": 5}, "number of classes"),
        ("decoder", {"in_channels": 6}, "6 channels in"),
        ("decoder", {"num_attention_heads": 2}, "attention_head_dim and num_attention_heads"),
    ],
)
def test_parts_that_contradict_each_other_are_found_at_opening(
    dalle: Dalle, model: str, tmp_path: Path, part: str, change: dict[str, int], said: str
) -> None:
    folder = adm_oracle.without(Path(model), tmp_path / "odd")
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    refused = dalle("generate", "--class", "tench", *FAST, "-m", str(folder))
    assert (refused.code, said in refused.err) == (3, True), refused.err
