"""minDALL-E on the command line: its licence, prompts that are too long, recipes, prompt files, and codes."""

import json
from pathlib import Path

import mindalle_oracle as oracle
import pytest

from .conftest import Dalle

pytestmark = pytest.mark.usefixtures("local")

PLACED = ("--device", "cpu", "--dtype", "fp32", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(oracle.make(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.mark.long
def test_the_licence_has_to_be_accepted_before_files_are_converted(dalle: Dalle) -> None:
    oracle.write_published(Path("files"))
    refused = dalle("models", "convert", "files", "tiny")
    assert (refused.code, refused.lines, Path("tiny").exists()) == (2, [], False)
    assert "mindalle is converted only for those who accept its licence" in refused.err
    assert "CC-BY-NC-SA 4.0: non-commercial use only" in refused.err
    assert "https://creativecommons.org/licenses/by-nc-sa/4.0/" in refused.err
    assert "dalle models convert files tiny --yes" in refused.err
    made = dalle("models", "convert", "files", "tiny", "--yes")
    assert (made.code, made.lines) == (0, ["tiny"])


def test_its_name_stands_for_no_files_and_the_command_that_makes_a_model_of_ones_own_is_named(dalle: Dalle) -> None:
    for arguments, code in ((("generate", "a cat", "-m", "mindalle"), 3), (("models", "pull", "mindalle"), 2)):
        refused = dalle(*arguments)
        assert (refused.code, refused.lines) == (code, [])
        assert "mindalle is not fetched by dalle" in refused.err
        assert "dalle models convert FILES mindalle, then -m ./mindalle" in refused.err
    (listed,) = [line for line in dalle("models", "list", "--json").objects if line["name"] == "mindalle"]
    assert (listed["here"], listed["licence"]) == ("own files", "CC-BY-NC-SA 4.0: non-commercial use only")


def test_a_prompt_becomes_a_picture_that_is_replayed_to_the_byte(dalle: Dalle, model: str) -> None:
    made = dalle("generate", "the cat", "-m", model, "--seed", "5", "--temperature", "0.9", "-o", "x.png", *PLACED)
    assert (made.code, made.lines, made.err) == (0, ["x.png"], "")
    again = dalle("replay", "x.png", "-m", model, "-o", "y.png", "--device", "cpu", "-q")
    assert (again.code, again.err) == (0, "")
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()
    shown = json.loads(dalle("show", "x.png", "--json").out)
    assert shown["stages"]["codes"] == {"temperature": 0.9, "top_k": 256, "top_p": 1.0, "guidance": 1.0}, shown


def test_what_does_not_fit_into_the_context_is_said(dalle: Dalle, model: str) -> None:
    made = dalle("generate", "cat " * 12 + "dog", "-m", model, "-o", "x.png", "--device", "cpu")
    assert made.code == 0
    assert '"dog"' in made.err or "dog" in made.err
    strict = dalle("generate", "cat " * 12 + "dog", "-m", model, "-o", "y.png", "--strict", "--device", "cpu")
    assert (strict.code, Path("y.png").exists()) == (2, False)


def test_prompt_files_and_codes_work_with_it(dalle: Dalle, model: str) -> None:
    Path("p.txt").write_text("a cat\nthe dog\n")
    made = dalle("generate", "--prompts", "p.txt", "-m", model, "--out", "pictures", *PLACED)
    assert (made.code, len(list(Path("pictures").glob("*.png")))) == (0, 2), made.err
    assert dalle("encode", "cat.png", "-m", model, "-o", "x.safetensors", *PLACED).code == 0
    back = dalle("decode", "x.safetensors", "-m", model, "-o", "back.png", *PLACED)
    assert (back.code, back.err) == (0, "")
    refused = dalle("generate", "a cat", "-m", model, "--guidance", "3", *PLACED)
    assert (refused.code, "never trained without words" in refused.err) == (2, True)
    negative = dalle("generate", "a cat", "-m", model, "--negative", "dog", *PLACED)
    assert (negative.code, "leave out --negative" in negative.err) == (2, True)
