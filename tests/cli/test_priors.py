"""`--prior` on the command line, with the starter: chosen, recorded, replayed, compared, refused."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Dalle

pytestmark = pytest.mark.usefixtures("local")

QUICK = ("generate", "a red house", "--seed", "3", "--size", "16", "--steps", "2", "--device", "cpu")


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive", "none"])
@pytest.mark.long
def test_a_picture_says_what_imagined_it_and_is_made_again(dalle: Dalle, kind: str) -> None:
    painted = dalle(*QUICK, "--prior", kind, "-o", "one.png")
    assert painted.code == 0
    recipe = json.loads(dalle("show", "one.png", "--json").out)
    assert recipe["prior"] == kind
    stages = {"diffusion": ["prior"], "autoregressive": ["autoregressive_prior"], "none": []}[kind]
    assert list(recipe["stages"]) == [*stages, "decoder"]
    assert (recipe["prior_candidates"] is None) == (kind == "none")
    assert ("prior" in recipe["scores"]) == (kind != "none")
    assert dalle("replay", "one.png", "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("one.png").read_bytes()


@pytest.mark.long
def test_priors_are_an_axis_and_paint_different_pictures(dalle: Dalle) -> None:
    result = dalle(*QUICK, "--x", "prior=diffusion,autoregressive,none", "-o", "sheet.png")
    assert result.code == 0, result.err
    pixels = []
    for kind in ("diffusion", "autoregressive", "none"):
        assert dalle(*QUICK, "--prior", kind, "-o", f"{kind}.png").code == 0
        with Image.open(f"{kind}.png") as single:
            pixels.append(single.convert("RGB").tobytes())
    assert len(set(pixels)) == 3
    with Image.open("sheet.png") as sheet:
        squares = {
            sheet.convert("RGB").crop((x, y, x + 16, y + 16)).tobytes()
            for x in range(sheet.width - 15)
            for y in range(sheet.height - 15)
        }
    assert set(pixels) <= squares


def test_a_line_of_a_prompt_file_chooses_its_prior(dalle: Dalle) -> None:
    lines = [{"prompt": "a dog", "seed": 1, "prior": kind} for kind in ("diffusion", "none", "autoregressive")]
    Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = dalle("generate", "--prompts", "p.jsonl", "--out", "out", "--size", "16", "--steps", "2")
    assert result.code == 0, result.err
    recipes = [json.loads(dalle("show", str(path), "--json").out) for path in sorted(Path("out").glob("*.png"))]
    assert sorted(recipe["prior"] for recipe in recipes) == ["autoregressive", "diffusion", "none"]


def test_show_says_that_there_was_no_prior(dalle: Dalle) -> None:
    dalle(*QUICK, "--prior", "none", "-o", "one.png")
    assert b"none: the text embedding was painted" in dalle("show", "one.png").out


def test_words_become_embeddings_by_any_prior(dalle: Dalle) -> None:
    files = []
    for kind in ("diffusion", "autoregressive", "none"):
        result = dalle("embed", "a dog", "--imagine", "--seed", "1", "--prior", kind, "-o", f"{kind}.safetensors")
        assert result.code == 0, result.err
        files.append(Path(f"{kind}.safetensors").read_bytes())
    assert len(set(files)) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prior", "gpt"), "no prior is called 'gpt'"),
        (("--prior", "none", "--prior-steps", "5"), "no prior runs"),
        (("--prior", "none", "--prior-guidance", "2"), "no prior runs"),
        (("--prior", "none", "--prior-candidates", "2"), "no prior draws candidates"),
        (("--prior", "autoregressive", "--prior-steps", "5"), "the autoregressive prior of starter has no steps"),
        (("--prior-temperature", "1"), "the prior of starter has no temperature"),
        (("--prior-top-k", "3"), "the prior of starter has no top-k"),
        (("--prior", "autoregressive", "--prior-temperature", "-1"), "temperature is -1"),
    ],
)
def test_what_a_prior_does_not_have_is_refused(dalle: Dalle, arguments: tuple[str, ...], said: str) -> None:
    result = dalle(*QUICK, *arguments, "-o", "one.png")
    assert (result.code, said in result.err) == (2, True), result.err
    assert not Path("one.png").exists()


@pytest.mark.long
def test_a_model_without_the_prior_that_is_asked_for_says_which_it_has(dalle: Dalle, tmp_path: Path) -> None:
    data = tmp_path / "pictures"
    from tests.training.postcards import write_postcards

    write_postcards(data)
    quick = ("--preset", "tiny", "--train-steps", "1")
    assert dalle("train", "all", str(data), "--out", "model", *quick).code == 0
    refused = dalle("generate", "a red square", "-m", "./model", "--prior", "autoregressive", "-o", "one.png")
    assert refused.code == 2
    assert "model has no autoregressive prior" in refused.err and "--prior diffusion or none" in refused.err
    trained = dalle("train", "prior", str(data), "--out", "model", "--kind", "autoregressive", "--train-steps", "1")
    assert trained.code == 0, trained.err
    painted = dalle("generate", "a red square", "-m", "./model", "--prior", "autoregressive", "-o", "one.png")
    assert painted.code == 0, painted.err
    wrong = dalle("train", "prior", str(data), "--out", "model", "--kind", "none")
    assert (wrong.code, "no prior is called 'none'" in wrong.err) == (2, True)


@pytest.fixture
def variations(model: str, tmp_path: Path) -> str:
    """A folder as Karlo's for variations of pictures: a text tower, an image tower, and no prior."""
    folder = shutil.copytree(model, tmp_path / "karlo-variations")
    for part in [*folder.glob("prior*"), *folder.glob("super_res_2*")]:
        shutil.rmtree(part)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "UnCLIPImageVariationPipeline"}))
    return str(folder)


def test_a_model_without_a_prior_paints_words_without_one(dalle: Dalle, variations: str) -> None:
    quick = ("-m", variations, "--seed", "3", "--size", "8", "--steps", "2", "--device", "cpu")
    asked = ("generate", "a red cat", *quick)
    refused = dalle(*asked, "-o", "one.png")
    assert refused.code == 2 and "has no prior" in refused.err and "--prior none paints" in refused.err
    assert "--prior none paints" in dalle(*asked, "--prior", "diffusion").err
    painted = dalle(*asked, "--prior", "none", "-o", "one.png")
    assert painted.code == 0, painted.err
    recipe = json.loads(dalle("show", "one.png", "--json").out)
    assert (recipe["prior"], list(recipe["stages"])) == ("none", ["decoder"])
    assert dalle("replay", "one.png", "--model", variations, "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("one.png").read_bytes()
    between = dalle("interpolate", "a red cat", "one.png", "--frames", "2", "--prior", "none", *quick, "-o", "two.png")
    assert between.code == 0, between.err
    imagined = dalle("embed", "a cat", "--imagine", "--prior", "none", "-m", variations, "-o", "cat.safetensors")
    assert imagined.code == 0, imagined.err
