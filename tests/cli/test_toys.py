"""Families of other kinds than unCLIP, each a file and a line in the table of layouts, with every front there is."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines.toys import cascade, tokens

from dallecli.pictures.metadata import read_recipe
from dallecli.size import Size
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.builder import build_request
from dallecli.tasks.stages import TokenSettings
from dallecli.weights.layouts import LAYOUTS

from .conftest import Dalle

TOYS = {"cascade": cascade, "tokens": tokens}
SIDES = {"cascade": 16, "tokens": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: toy.write(tmp_path_factory.mktemp("toys") / name) for name, toy in TOYS.items()}


@pytest.fixture(params=TOYS)
def toy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def one_line_in_the_table(local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, toy in TOYS.items():
        monkeypatch.setitem(LAYOUTS, f"toy-{name}", toy.LAYOUT)


Generate = Callable[..., list[str]]


@pytest.fixture
def generate(dalle: Dalle, folders: dict[str, Path], toy: str) -> Generate:
    """Paint with the toy on the command line; the paths of what was written."""

    def paint(*arguments: str) -> list[str]:
        result = dalle("generate", "-m", str(folders[toy]), "--device", "cpu", "--dtype", "fp32", *arguments)
        assert result.code == 0, result.err
        return result.lines

    return paint


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_sentence_is_painted_and_the_seed_decides(toy: str, generate: Generate):
    paths = [generate("a red cat", "-s", seed, "-o", f"{k}.png") for k, seed in enumerate(("7", "7", "8"))]
    first, again, other = (pixels(path) for (path,) in paths)
    assert first.shape == (SIDES[toy], SIDES[toy], 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_several_pictures_are_those_of_the_seeds_that_follow(generate: Generate):
    files = generate("a red cat", "-s", "7", "-n", "3", "--layout", "files", "--batch", "2")
    for k, path in enumerate(files):
        (alone,) = generate("a red cat", "-s", str(7 + k), "-o", f"alone-{k}.png")
        assert np.array_equal(pixels(path), pixels(alone))


def test_a_recipe_says_which_stages_ran_with_which_dials_and_no_prior(toy: str, generate: Generate):
    (path,) = generate("a red cat", "-o", "a.png")
    recipe = read_recipe(Path(path))
    assert recipe.stages == TOYS[toy].LAYOUT.dials
    assert recipe.prior_candidates is None


def test_a_picture_is_made_again_from_its_recipe(toy: str, dalle: Dalle, folders: dict[str, Path], generate: Generate):
    (path,) = generate("a blue dog", "-s", "3", "--guidance", "1.5", "-o", "a.png")
    result = dalle("replay", path, "-m", str(folders[toy]), "-o", "again.png")
    assert result.code == 0
    assert np.array_equal(pixels(path), pixels("again.png"))
    assert read_recipe(Path("again.png")).stages == read_recipe(Path(path)).stages
    assert dalle("show", path).code == 0


def test_a_file_of_prompts_is_painted_and_goes_on_where_it_stopped(generate: Generate, toy: str):
    own = {"steps": 2} if toy == "cascade" else {"temperature": 0.0, "top_k": 5}
    lines = [{"prompt": "a red cat", "seed": 1}, {"prompt": "a blue dog", "seed": 2, **own}]
    Path("many.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    first, second = generate("--prompts", "many.jsonl", "--out", "made")
    (alone,) = generate("a red cat", "-s", "1", "-o", "alone.png")
    assert np.array_equal(pixels(first), pixels(alone))
    stage = next(iter(read_recipe(Path(second)).stages.values()))
    assert {name: getattr(stage, name) for name in own} == own
    before = Path(second).stat().st_mtime_ns
    generate("--prompts", "many.jsonl", "--out", "made")
    assert Path(second).stat().st_mtime_ns == before


def test_the_body_of_a_request_is_painted_like_a_command_line(toy: str, folders: dict[str, Path], generate: Generate):
    body = json.loads('{"prompt": "a red cat", "n": 2, "seed": 7, "guidance": 2.5}')
    engine = LocalEngine()
    defaults = {"model": str(folders[toy]), "device": "cpu", "dtype": "fp32"}
    recipe = engine.resolve(build_request("generate", body, defaults))
    pictures = list(engine.paint(recipe, lambda step: None))
    files = generate("a red cat", "-n", "2", "-s", "7", "--guidance", "2.5", "--layout", "files")
    for picture, path in zip(pictures, files, strict=True):
        assert np.array_equal(np.asarray(picture.image), pixels(path))


def test_a_sheet_of_two_dials_is_painted(generate: Generate):
    (sheet,) = generate("a red cat", "-s", "1", "--x", "guidance=1,2,3", "--y", "seed=1,2", "-o", "sheet.png")
    assert Image.open(sheet).width > Image.open(sheet).height


@pytest.mark.parametrize("toy", ["tokens"], indirect=True)
def test_the_dials_of_codes_are_axes_options_and_settings(dalle: Dalle, generate: Generate):
    generate("a red cat", "-s", "1", "--x", "temperature=0,1,2", "--y", "top_k=1,0", "-o", "sheet.png")
    (path,) = generate("a red cat", "--temperature", "0.5", "--top-k", "7", "--top-p", "0.9", "-o", "a.png")
    assert read_recipe(Path(path)).stages["codes"] == TokenSettings(temperature=0.5, top_k=7, top_p=0.9, guidance=2.0)
    assert dalle("config", "set", "top-k", "1").code == 0
    (likeliest,) = generate("a red cat", "-s", "1", "-o", "b.png")
    (other,) = generate("a red cat", "-s", "2", "-o", "c.png")
    assert np.array_equal(pixels(likeliest), pixels(other))


@pytest.mark.parametrize("toy", ["tokens"], indirect=True)
def test_the_negative_prompt_of_codes_takes_the_place_of_no_words(generate: Generate):
    ask = ("a red cat", "-s", "1", "--temperature", "0")
    plain, led, alone = (
        pixels(generate(*ask, *more, "-o", f"{k}.png")[0])
        for k, more in enumerate([(), ("--negative", "a dog"), ("--negative", "a dog", "--guidance", "1")])
    )
    (unguided,) = generate(*ask, "--guidance", "1", "-o", "unguided.png")
    assert not np.array_equal(plain, led)
    assert np.array_equal(alone, pixels(unguided))


@pytest.mark.parametrize("toy", ["tokens"], indirect=True)
def test_a_picture_is_continued_below_its_upper_rows_of_codes(dalle: Dalle, generate: Generate, folders):
    (whole,) = generate("a blue dog", "-s", "5", "-o", "whole.png")
    ask = ("a red cat", "-s", "1", "--continue", whole)
    for rows in (1, 3):
        (path,) = generate(*ask, "--rows", str(rows), "-o", f"{rows}.png")
        assert np.array_equal(pixels(path)[: 2 * rows], pixels(whole)[: 2 * rows])  # 2 pixels a code
        assert not np.array_equal(pixels(path)[2 * rows :], pixels(whole)[2 * rows :])
        assert dalle("replay", path, "-m", str(folders["tokens"]), "-o", f"again-{rows}.png").code == 0
        assert np.array_equal(pixels(path), pixels(f"again-{rows}.png"))
    (half,) = generate(*ask, "-o", "half.png")
    assert read_recipe(Path(half)).settings.to_dict()["rows"] == 2
    assert np.array_equal(pixels(half)[:4], pixels(whole)[:4])
    Path("lines.jsonl").write_text(json.dumps({"prompt": "a red cat", "seed": 1, "continue": whole, "rows": 3}))
    (line,) = generate("--prompts", "lines.jsonl", "--out", "lines")
    assert np.array_equal(pixels(line), pixels("3.png"))
    several = generate(*ask, "-n", "3", "--layout", "files", "--batch", "2")
    assert np.array_equal(pixels(several[0]), pixels(half))
    assert dalle("show", half).out.decode().count("after 2 rows") == 1
    refused = dalle("generate", *ask, "--rows", "4", "-m", str(folders["tokens"]))
    assert (refused.code, "4 rows are kept of the 4" in refused.err) == (2, True)


def test_a_model_that_writes_no_codes_goes_on_from_no_picture(dalle: Dalle, folders):
    Image.new("RGB", (16, 16)).save("grey.png")
    refused = dalle("generate", "a cat", "--continue", "grey.png", "-m", str(folders["cascade"]))
    assert (refused.code, "cascade cannot go on from a picture" in refused.err) == (2, True)


# What a kind of model does not have


@pytest.fixture
def refused(dalle: Dalle, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The error of a command, which comes before weights are read."""

    def unread(*arguments: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("dallecli.pipelines.parts.open_net", unread)
    monkeypatch.setattr("dallecli.studio.opened.check_bytes", unread)

    def refuse(toy: str, *arguments: str) -> str:
        result = dalle(*arguments, "-m", str(folders[toy]))
        assert (result.code, result.out) == (2, b"")
        return result.err

    return refuse


@pytest.mark.parametrize(
    ("dial", "value", "missing"),
    [
        ("--prior-steps", "3", "cascade has no prior"),
        ("--prior-guidance", "3", "cascade has no prior"),
        ("--prior-candidates", "3", "cascade has no prior"),
    ],
)
def test_a_cascade_has_no_prior(refused, dial, value, missing):
    error = refused("cascade", "generate", "a cat", dial, value)
    assert missing in error
    assert dial in error


@pytest.mark.parametrize(
    ("dial", "value", "missing"),
    [
        ("--prior-steps", "3", "tokens has no prior"),
        ("--prior-candidates", "3", "tokens has no prior"),
        ("--upsampler-steps", "3", "tokens has no upsampler"),
        ("--sampler", "ddim", "tokens, which writes codes, has no sampler"),
        ("--steps", "3", "tokens, which writes codes, has no steps"),
        ("--init", "cat.png", "paints over no other"),
        ("--rows", "2", "rows are for a picture to go on from"),
        ("--size", "16", "does not paint 16 pixels"),
        ("--best-of", "4", "has no CLIP, which --best-of needs"),
    ],
)
def test_a_dial_that_tokens_do_not_have_is_refused_by_name(refused, dial, value, missing):
    assert missing in refused("tokens", "generate", "a cat", dial, value)


@pytest.mark.parametrize("effort", ["--fast", "--best"])
def test_an_effort_that_changes_no_steps_is_refused_by_name(refused, effort):
    assert f"tokens has no steps that {effort} would change" in refused("tokens", "generate", "a cat", effort)


@pytest.mark.parametrize("dial", ["temperature", "top_k", "top_p"])
def test_a_dial_of_tokens_is_refused_where_there_are_none(refused, dial):
    name = dial.replace("_", "-")
    Path("a.jsonl").write_text(json.dumps({"prompt": "a cat", dial: 1}))
    assert f"has no {name}" in refused("cascade", "generate", "--prompts", "a.jsonl", "--out", "made")
    error = refused("cascade", "generate", "a cat", f"--{name}", "1")
    assert f"has no {name}" in error
    assert f"leave out --{name}" in error


@pytest.mark.parametrize(
    "command",
    [
        ("vary", "cat.png"),
        ("interpolate", "cat.png", "dog.png"),
        ("inpaint", "cat.png", "--mask", "0,0,8,8"),
        ("edit", "cat.png", "--from", "a cat", "--to", "a dog"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("name", TOYS)
def test_a_verb_that_a_kind_lacks_is_refused_by_name(refused, name, command):
    error = refused(name, *command)
    assert command[0] in error
    assert "it can generate" in error


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("command", [("embed", "a cat"), ("rank", "cat.png", "a cat", "a dog")], ids=lambda c: c[0])
def test_what_only_a_clip_does_is_refused_without_one(refused, name, command):
    assert "has no CLIP" in refused(name, *command)


def test_the_smaller_size_of_a_cascade_runs_its_first_stage_alone(dalle: Dalle, folders: dict[str, Path]):
    ask = ("generate", "a red cat", "-m", str(folders["cascade"]), "--device", "cpu", "--size", "8", "-o", "a.png")
    assert dalle(*ask).code == 0
    assert list(read_recipe(Path("a.png")).stages) == ["decoder"]
    assert Image.open("a.png").size == (8, 8)


def test_a_cascade_keeps_the_proportions_in_all_of_its_stages(dalle: Dalle, folders: dict[str, Path]):
    ask = ("generate", "a red cat", "-m", str(folders["cascade"]), "--device", "cpu", "--dtype", "fp32", "-s", "3")
    assert dalle(*ask, "--size", "20x14", "-o", "a.png").code == 0
    assert (read_recipe(Path("a.png")).size, pixels("a.png").shape) == (Size(20, 14), (14, 20, 3))
    assert dalle(*ask, "--size", "20x14", "-n", "3", "--layout", "files", "--out", ".", "--batch", "3").code == 0
    assert (pixels("a.png") == pixels("a-red-cat-3.png")).all()
    assert dalle("replay", "a.png", "-m", str(folders["cascade"]), "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("a.png").read_bytes()


def test_codes_have_their_places_so_that_pictures_are_cut_out_of_squares(dalle: Dalle, folders: dict[str, Path]):
    ask = ("generate", "a red cat", "-m", str(folders["tokens"]), "--device", "cpu", "--dtype", "fp32", "-s", "3")
    assert dalle(*ask, "-o", "whole.png").code == 0
    result = dalle(*ask, "--size", "8x4", "-o", "a.png")
    assert "tokens paints squares: of 8x8 the middle 8x4 is kept" in result.err
    assert (pixels("a.png") == pixels("whole.png")[2:6]).all()
    assert (read_recipe(Path("a.png")).size, read_recipe(Path("a.png")).crop) == (Size(8, 8), Size(8, 4))
    assert dalle("replay", "a.png", "-m", str(folders["tokens"]), "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("a.png").read_bytes()
    refused = dalle(*ask, "--size", "12x6")
    assert (refused.code, "--size 8x4" in refused.err) == (2, True)


def test_words_that_a_kind_does_not_read_are_said_by_its_own_tokenizer(dalle: Dalle, folders: dict[str, Path]):
    for toy, words in (("cascade", "extra"), ("tokens", "purple extra")):
        result = dalle("generate", "a purple cat a red extra", "-m", str(folders[toy]), "--device", "cpu", "--json")
        assert result.code == 0
        assert words in result.err
        assert dalle("generate", "a purple cat a red extra", "-m", str(folders[toy]), "--strict").code == 2


def test_the_dials_of_a_folder_are_those_of_its_own_stages(dalle: Dalle, tmp_path: Path):
    folder = tokens.write(tmp_path / "own")
    (folder / "dalle.json").write_text(json.dumps({"stages": {"codes": {"temperature": 0.5, "top_k": 3}}}))
    assert dalle("generate", "a cat", "-m", str(folder), "--device", "cpu", "-o", "a.png").code == 0
    stage = read_recipe(Path("a.png")).stages["codes"]
    assert stage == TokenSettings(temperature=0.5, top_k=3, top_p=1.0, guidance=2.0)
    (folder / "dalle.json").write_text(json.dumps({"prior_candidates": 2}))
    result = dalle("generate", "a cat", "-m", str(folder))
    assert (result.code, "prior_candidates" in result.err) == (3, True)


@pytest.mark.parametrize("name", TOYS)
def test_the_doctor_knows_what_a_toy_takes(dalle: Dalle, folders: dict[str, Path], name: str):
    result = dalle("doctor", "-m", str(folders[name]), "--device", "cpu")
    assert result.code == 0
    assert LAYOUTS[f"toy-{name}"].networks[0] in result.out.decode()
