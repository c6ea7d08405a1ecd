"""The Python face: the names that are promised, calls that mean what the options do, and the page that shows them."""

import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from chat import chatting
from PIL import Image
from typer.main import get_command

import dallecli
from dallecli import model as face
from dallecli.cli.app import build
from dallecli.errors import BadInput, BadOutput, BadSetting, BadSize, NetworkError
from tests.server.talking import process as serving

PAGE = Path(__file__).parents[1] / "docs" / "python.md"

EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

OPTIONS = {
    "generate": face.GenerateOptions,
    "vary": face.VaryOptions,
    "interpolate": face.InterpolateOptions,
    "inpaint": face.InpaintOptions,
    "edit": face.EditOptions,
    "embed": face.EmbedOptions,
}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dallecli.Model:
    """A model of the fake engine, in an empty folder."""
    monkeypatch.setenv("DALLE_ENGINE", "fake")
    monkeypatch.chdir(tmp_path)
    return dallecli.open("starter")


def test_the_names_of_the_face_are_a_decision():
    assert dallecli.__all__ == [
        *("Coded", "DalleError", "DalleWarning", "Embedded", "Model", "Picture", "Progress", "Recipe", "Score"),
        *("__version__", "open"),
    ]
    assert all(hasattr(dallecli, name) for name in dallecli.__all__)
    calls = {name for name in vars(dallecli.Model) if not name.startswith("_")}
    assert calls == {"generate", "vary", "interpolate", "inpaint", "edit", "paint", "embed", "rank", "encode", "decode"}
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        dallecli.opne  # noqa: B018


def test_importing_it_imports_nothing_heavy():
    code = "import sys, dallecli; print(dallecli.__version__); assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_examples_of_the_page_run_in_their_order(model, capsys):
    assert len(EXAMPLES) > 5
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, str(PAGE), "exec"), names)
    assert [path.name for path in sorted(Path().iterdir())] == ["car-7.png", "car-8.png", "cat.png"]
    assert "upsampler_2: 7 of 7" in capsys.readouterr().out


@pytest.mark.parametrize("task", OPTIONS)
def test_keywords_are_called_as_the_options_are(task):
    command = get_command(build()).commands[task]  # type: ignore[attr-defined]
    options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    keywords = typing.get_type_hints(OPTIONS[task], localns={"Given": object, "Area": object})
    named = {f"--{name.rstrip('_').replace('_', '-')}" for name in keywords}
    assert named <= options
    of_the_call = {f"--{name.rstrip('_')}" for name in inspect.signature(getattr(face.Model, task)).parameters}
    sections = ("Pictures", "Sampling", "Mask", "Arithmetic")
    sampled = {
        option
        for param in command.params
        for option in (param.opts[0], *param.secondary_opts)
        if getattr(param, "rich_help_panel", None) in sections and option.startswith("--")
    }
    assert sampled - named - of_the_call <= {"--show-mask"}


def test_a_picture_is_that_of_the_command_line(model):
    from dallecli.cli.app import run

    assert run(["generate", "a red fox", "--seed", "7", "--steps", "9", "-o", "fox.png", "-q"]) == 0
    (picture,) = model.generate("a red fox", seed=7, steps=9)
    picture.save("again.png")
    assert Path("again.png").read_bytes() == Path("fox.png").read_bytes()


def test_a_file_is_replaced_only_by_force(model):
    (picture,) = model.generate("a red fox")
    path = picture.save("fox.webp")
    with pytest.raises(BadOutput):
        picture.save("fox.webp")
    assert picture.save("fox.webp", force=True) == path
    with pytest.raises(BadOutput, match=r"what format is 'fox\.tiff'"):
        picture.save("fox.tiff")


def test_what_is_wrong_is_said_at_once(model):
    with pytest.raises(BadSize):
        model.generate("a red fox", size=100)
    with pytest.raises(BadInput):
        model.vary("nothing.png")
    with pytest.raises(BadSetting, match="does not know 'stepps'"):
        model.generate("a red fox", stepps=3)
    with pytest.raises(TypeError, match="not int"):
        model.vary(7)


def test_words_that_are_not_read_are_a_warning(model):
    with pytest.warns(dallecli.DalleWarning, match="dropped: 32"):
        model.generate(" ".join(str(number) for number in range(33)))


def test_a_mask_is_a_box_a_picture_or_several(model):
    (fox,) = model.generate("a red fox", seed=1)
    box, picture, file = (0, 0, 64, 64), Image.new("L", fox.image.size), Path("mask.png")
    picture.paste(255, (100, 100, 200, 200))
    picture.save(file)
    for mask in (box, picture, file, [box, (80, 80, 64, 64)], [box, picture]):
        (painted,) = model.inpaint(fox, mask=mask, prompt="a hat", seed=2)
        assert painted.image.size == fox.image.size


def test_steps_are_told_as_they_are_taken(model):
    seen: list[dallecli.Progress] = []
    pictures = model.generate("a red fox", num=2, progress=seen.append)
    assert not seen
    next(pictures)
    assert {step.picture for step in seen} == {0}
    assert [step.step for step in seen if step.stage == "prior"] == list(range(1, 11))


def test_a_server_paints_the_same_pictures_and_the_program_imports_no_torch(model, tmp_path):
    with serving(tmp_path) as server:
        program = f"""
import sys, dallecli
there = dallecli.open("starter", server="http://127.0.0.1:{server.port}")
(picture,) = there.generate("a red car", seed=7, size=64)
picture.save("there.png")
(like,) = there.vary("there.png", seed=8, size=64)
like.save("like.png")
assert "torch" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
        assert server.metric("dalle_images_total") == 2
    (here,) = model.generate("a red car", seed=7, size=64)
    (like,) = model.vary("there.png", seed=8, size=64)
    here.save("here.png")
    like.save("like-here.png")
    assert Path("there.png").read_bytes() == Path("here.png").read_bytes()
    assert Path("like.png").read_bytes() == Path("like-here.png").read_bytes()


def test_a_server_that_is_not_there_is_an_error_and_auto_paints_here(model, monkeypatch):
    with pytest.raises(NetworkError):
        list(dallecli.open("starter", server="http://127.0.0.1:1").generate("a cat", size=16))
    monkeypatch.setenv("DALLE_SERVER", "http://127.0.0.1:1")
    (picture,) = dallecli.open("starter", server="auto").generate("a cat", seed=1, size=16)
    assert picture.image.size == (16, 16)


def test_a_language_model_rewrites_what_is_painted(model, monkeypatch):
    with chatting("a blue dog", "a red car") as chat:
        rewritten = dallecli.open("starter", rewrite_with=(chat.url, "parrot"))
        (picture,) = rewritten.generate("my grandmother's pet", seed=1)
        assert picture.recipe.prompt == "a blue dog"
        assert picture.recipe.rewritten is not None
        assert [one.asked for one in picture.recipe.rewritten.sentences] == ["my grandmother's pet"]
        # A recipe says what to paint, and nobody is asked again.
        (again,) = rewritten.paint(picture.recipe)
        assert again.image.tobytes() == picture.image.tobytes() and len(chat.asked) == 1
        monkeypatch.setenv("DALLE_REWRITE_URL", chat.url)
        monkeypatch.setenv("DALLE_REWRITE_MODEL", "parrot")
        (named,) = dallecli.open("starter", rewrite="required").generate("my grandmother's car")
        assert named.recipe.prompt == "a red car"


def test_without_a_language_model_nothing_is_painted_unless_it_is_optional(model):
    gone = ("http://127.0.0.1:9/v1", "parrot")
    with pytest.raises(NetworkError, match="parrot cannot be reached"):
        dallecli.open("starter", rewrite_with=gone).generate("a cat")
    with pytest.warns(dallecli.DalleWarning, match="painted as it was typed"):
        (picture,) = dallecli.open("starter", rewrite="optional", rewrite_with=gone).generate("a cat")
    assert picture.recipe.prompt == "a cat" and picture.recipe.rewritten is None
    with pytest.raises(BadSetting, match="required or optional, not 'always'"):
        dallecli.open("starter", rewrite="always", rewrite_with=gone)
