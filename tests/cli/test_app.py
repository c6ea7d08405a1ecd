"""The application as a whole: help, version, settings and their precedence, completion, and one boundary for errors."""

import re
from pathlib import Path

import pytest

from dallecli import __version__
from dallecli.cli.app import build
from dallecli.cli.settings import UNSETTABLE, config_path, settable
from dallecli.pictures.metadata import read_recipe

from .conftest import Dalle


def _config(text: str) -> None:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_no_command_shows_the_help(dalle: Dalle):
    assert dalle() == dalle("--help") == dalle("-h")
    result = dalle()
    assert (result.code, result.remarks) == (0, "")
    assert "Examples:\n    dalle generate" in result.out.decode()


@pytest.mark.parametrize("group", ["models", "train"])
def test_a_group_alone_shows_its_help(dalle: Dalle, group):
    assert dalle(group) == dalle(group, "--help")
    assert dalle(group).code == 0


def test_version_is_one_line(dalle: Dalle):
    assert dalle("--version").out.decode() == f"dalle {__version__}\n"


VERBS = ["generate", "vary", "interpolate", "inpaint", "edit", "rank", "embed", "show", "replay", "doctor"]


@pytest.mark.parametrize("command", [*([verb] for verb in VERBS), ["models", "list"], ["models", "path"]])
def test_every_command_has_help_with_examples(dalle: Dalle, command):
    for flag in ("-h", "--help"):
        result = dalle(*command, flag)
        assert (result.code, result.remarks) == (0, "")
        text = result.out.decode()
        assert f"Usage: dalle {' '.join(command)}" in text
        assert text.count("    dalle ") + text.count("$(dalle ") >= 2
        assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["models", "nope"], "No such command 'nope'."),
        (["generate", "--nope", "3"], "No such option: --nope"),
        (["generate", "--steps"], "Option '--steps' requires an argument."),
        (["show"], "Missing argument 'FILE'."),
        (["\x1b[31m\nnope"], "No such command '^[[31m^Jnope'."),
    ],
)
def test_wrong_usage_is_two_lines_and_code_2(dalle: Dalle, arguments, what):
    result = dalle(*arguments)
    assert (result.code, result.out) == (2, b"")
    first, second = result.err.splitlines()
    assert first.replace("\\x1b", "^[").replace("\\n", "^J") == f"error: {what}"
    assert second.startswith("hint: dalle ")
    assert second.endswith("--help")


def test_options_win_over_environment_over_config_over_model(dalle: Dalle, monkeypatch):
    def model(*options: str) -> str:
        return dalle("generate", "a fox", "--json", *options).objects[0]["model"]

    assert model() == "starter"
    _config('model = "fake"')
    assert model() == "fake"
    monkeypatch.setenv("DALLE_MODEL", "starter")
    assert model() == "starter"
    assert model("--model", "fake") == "fake"
    monkeypatch.setenv("DALLE_MODEL", "")
    assert model() == "fake"


def test_the_config_file_sets_any_dial(dalle: Dalle):
    Path("pictures").mkdir()
    _config(
        'steps = 9\nprior-steps = 8\nguidance = 0\nsampler = "ddim"\nsize = 64\nnum = 2\nformat = "webp"\n'
        'layout = "files"\nout = "pictures"\nno-metadata = false\nquiet = true\nprior-candidates = 1'
    )
    paths = dalle("generate", "a fox", "-s", "7").lines
    assert paths == ["pictures/a-fox-7.webp", "pictures/a-fox-8.webp"]
    recipe = read_recipe(Path(paths[0]))
    assert (recipe.stages["decoder"].steps, recipe.stages["prior"].steps, recipe.size.stated) == (9, 8, 64)
    assert recipe.stages["decoder"].guidance == 0.0
    assert dalle("generate", "a fox", "-n", "1", "--size", "16", "--steps", "5", "-s", "1").code == 0
    assert read_recipe(Path("pictures/a-fox-1.webp")).stages["decoder"].steps == 5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("modle = 'starter'", "'modle' is not a setting"),
        ("[generate]\nsteps = 3", "'generate' is not a setting"),
        ("steps = '9'", "steps is '9', it should be a whole number"),
        ("steps = true", "steps is True, it should be a whole number"),
        ("guidance = 'high'", "guidance is 'high', it should be a number"),
        ("quiet = 1", "quiet is 1, it should be true or false"),
        ("model = 5", "model is 5, it should be text"),
        ("steps = ", "the config file cannot be read: "),
        ("layout = 'pile'", "Invalid value for '--layout'"),
        ("steps = 1", "1 decoder steps"),
        ("\x1b[31m = 1", "the config file cannot be read: "),
    ],
)
def test_a_mistake_in_the_config_file_is_explained(dalle: Dalle, text, what):
    _config(text)
    result = dalle("generate", "a fox")
    assert result.code == 2
    assert what in result.err.splitlines()[0]
    assert len(result.err.splitlines()) <= 3
    assert "\x1b" not in result.err


def test_a_near_miss_in_the_config_file_gets_a_suggestion(dalle: Dalle):
    _config("modle = 'starter'")
    assert dalle("generate", "a fox").remarks.splitlines() == [
        "error: 'modle' is not a setting",
        f"where: {config_path()}",
        "hint: did you mean model?",
    ]


def test_a_config_file_that_is_not_text_is_explained(dalle: Dalle):
    _config("")
    config_path().write_bytes(b"\xff\xfe")
    assert "the config file cannot be read" in dalle("generate", "a fox").err


def test_commands_without_settings_do_not_mind_a_broken_config_file(dalle: Dalle):
    _config("nope = 1")
    assert dalle("models", "list").code == 0
    assert dalle("--help").code == 0


def test_the_list_of_commands_says_each_in_one_line(dalle: Dalle):
    listed = [line for line in dalle("--help").lines if line.strip().split(" ")[0] in VERBS]
    assert len(listed) == len(VERBS)
    assert not any(line.endswith("...") for line in listed)


def test_the_config_file_is_for_every_task_and_a_number_of_pictures_not_for_ways(dalle: Dalle, tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save("x.png")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text('num = 3\nsize = 16\nformat = "webp"\n')
    assert len(dalle("vary", "x.png", "--json").objects) == 3
    assert dalle("inpaint", "x.png", "--mask", "0,0,4,4", "-s", "1").lines == ["x-inpaint-1-grid.webp"]
    assert dalle("interpolate", "x.png", "a fox", "-s", "1").lines == ["x-to-a-fox-1-strip.webp"]
    assert dalle("interpolate", "x.png", "a fox", "-s", "1", "--animate", "gif").lines == ["x-to-a-fox-1.gif"]
    assert dalle("edit", "x.png", "--from", "a", "--to", "b", "-s", "1").lines == ["x-to-b-1.webp"]


def test_every_option_of_a_painting_command_is_a_setting_or_of_one_run_only():
    from typer.main import get_command

    root = get_command(build())
    params = [param for name in VERBS[:5] for param in root.commands[name].params]
    options = {param.opts[0].removeprefix("--"): param.name for param in params if param.opts[0].startswith("--")}
    assert {key: setting.parameter for key, setting in settable().items()} == {
        key: name for key, name in options.items() if key not in UNSETTABLE
    }
    assert set(options) >= UNSETTABLE


def test_the_home_folder_decides_where_the_config_file_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DALLE_HOME", str(tmp_path))
    assert config_path() == tmp_path / "config.toml"
    monkeypatch.delenv("DALLE_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config_path().name == "config.toml"
    assert config_path().parent.name == "dalle"


@pytest.mark.parametrize(("name", "value"), [("DALLE_ENGINE", "quantum"), ("DALLE_FAKE_SECONDS", "soon")])
def test_a_variable_that_means_nothing_is_refused(dalle: Dalle, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    result = dalle("generate", "a fox")
    assert result.code == 2
    assert value in result.err


def test_completion_knows_commands_options_and_models(monkeypatch, capfd):
    def complete(words: str, index: int) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(index))
        with pytest.raises(SystemExit):
            build(completion=True)(args=[], prog_name="dalle")
        return capfd.readouterr().out.split()

    monkeypatch.setenv("_DALLE_COMPLETE", "complete_bash")
    assert "generate" in complete("dalle gen", 1)
    assert "--steps" in complete("dalle generate --ste", 2)
    assert complete("dalle generate -m kar", 3) == ["karlo"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "names"),
    [("generate --model star", ["starter", "starter-1"]), ("generate --sampler d", ["ddim", "dpm++"])],
)
def test_every_shell_completes_names_of_models_and_samplers(monkeypatch, capfd, shell, line, names):
    words = f"dalle {line}"
    monkeypatch.setenv("_DALLE_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        build(completion=True)(args=[], prog_name="dalle")
    assert re.findall(r"starter-1|starter|ddim|dpm\+\+", capfd.readouterr().out) == names
