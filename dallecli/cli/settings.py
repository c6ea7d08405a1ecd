"""What the user set outside of the command line: environment variables and the config file.

Precedence: options, then what a shell's `set` says, then environment, then config file, then the model's defaults.
Typer applies it: an option names its variable (options.py), and the config file becomes the context's `default_map`.
Nothing else reads the environment.
"""

import functools
import inspect
import math
import tomllib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args, get_origin

from typer.models import OptionInfo

from dallecli.cli.options import SizeOption, StepsOption, known_dtype
from dallecli.errors import BadConfig, reason
from dallecli.limits import SETTINGS_BYTES, read_file
from dallecli.own_folders import NOWHERE, SET_ONE, own_folder
from dallecli.size import HOW, read_size
from dallecli.tasks.stages import RESPACINGS

VARIABLES: Mapping[str, str] = {
    "DALLE_MODEL": "as `--model`",
    "DALLE_DEVICE": "as `--device`",
    "DALLE_HOME": "a folder for what dalle keeps: `config.toml`, the history, digests of models, scores of best-ofs",
    "DALLE_REWRITE_URL": "the base URL of the server that rewrites prompts, as in `--rewrite-with`",
    "DALLE_REWRITE_MODEL": "the name of the language model that it does so with",
    "OPENAI_BASE_URL": "the same as `DALLE_REWRITE_URL`, where that is not set",
    "OPENAI_API_KEY": "the key that is sent to that server: over https, or to this machine",
    "DALLE_SERVER": "as `--server`",
    "DALLE_TOKEN": "the token that clients of `dalle serve` have to send, and that is sent to a server",
    "HF_HOME": "where Hugging Face keeps downloaded models, and dalle those that it pulled",
    "HF_HUB_OFFLINE": "1: nothing is asked of the Hugging Face Hub",
    "HF_ENDPOINT": "another Hub, or a mirror of it",
    "NO_COLOR": "no colours on standard error",
    "DALLE_ENGINE": "`fake` paints flat colours without a model, for tests of scripts",
    "DALLE_FAKE_SECONDS": "how long each step of the fake engine takes",
}
"""The environment variables that change what dalle does, and how."""

SESSION: Final[ContextVar[Mapping[str, Any]]] = ContextVar("session", default=MappingProxyType({}))
"""What is set for the lines of a `dalle shell`, by option name."""

UNSETTABLE: Final = frozenset({"output", "prompts", "json", "debug", "dry-run", "show-mask", "retry-failed", "shard"})
"""Options of one run only, which would be traps as defaults."""

FOR_PROMPT_FILES: Final = frozenset({"matrix", "wildcards", "keep-going", "share"})
"""Settings that count where --prompts is given; elsewhere these options are mistakes."""

FOR_REWRITING: Final = frozenset({"rewrite-with"})
"""Settings that count where --rewrite is given or set: on a command line alone this option means that, too."""

_ONE_FILE: Final = ("out", "layout", "format")

SERVED: Final = ("encode", "decode", "replay")
"""The commands for which the config file only says which server is used."""

GIVE_WAY: Final[Mapping[str, tuple[str, ...]]] = {
    "-o": _ONE_FILE,
    "--output": _ONE_FILE,
    "--prompts": ("animate", "x", "y"),
    "--frames": ("at", "weights"),
    "--at": ("frames", "weights"),
    "--weights": ("frames", "at"),
    "--strength": ("sweep",),
    "--sweep": ("strength",),
}
"""Settings that do not count beside an option that contradicts them: what is said now wins over what is usual."""

KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    StepsOption: f"a whole number, or one of {', '.join(RESPACINGS)}",
    SizeOption: HOW,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """An option that the config file can set: its name in Python, the kind of its value, and the words it can be."""

    parameter: str
    kind: type
    choices: tuple[str, ...] = ()
    variable: str | None = None
    """The environment variable that says the same."""

    @property
    def described(self) -> str:
        return f"one of {', '.join(self.choices)}" if self.choices else KINDS[self.kind]


@functools.cache
def settable() -> Mapping[str, Setting]:
    """What the config file may set: the options of the painting commands, by long name without the hyphens in front."""
    from dallecli.cli.edit import edit
    from dallecli.cli.generate import generate
    from dallecli.cli.inpaint import inpaint
    from dallecli.cli.interpolate import interpolate
    from dallecli.cli.vary import vary

    found: dict[str, Setting] = {}
    for command in (generate, vary, interpolate, inpaint, edit):
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            kind, *option = get_args(parameter.annotation)[:2] or (parameter.annotation,)
            for name in _long_names(*option) if option else ():
                if name not in UNSETTABLE:
                    variable = getattr(option, "envvar", None)
                    found.setdefault(name, replace(_setting(parameter.name, kind), variable=variable))
    return found


def _long_names(option: object) -> list[str]:
    """The first long name of an option; nothing of an argument."""
    if not isinstance(option, OptionInfo):
        return []
    # Inside Annotated there is no default, and Typer takes the first name for it.
    declared = [option.default, *(option.param_decls if option.param_decls is not None else ())]
    names = [name.partition("/")[0] for name in declared if isinstance(name, str)]
    return [name.removeprefix("--") for name in names if name.startswith("--")][:1]


def _setting(parameter: str, annotation: Any) -> Setting:
    inner = next((kind for kind in get_args(annotation) if kind is not type(None)), annotation)
    kind = inner if type(None) in get_args(annotation) else annotation
    if get_origin(kind) is Literal:
        return Setting(parameter=parameter, kind=str, choices=get_args(kind))
    if get_origin(kind) in (list, tuple):
        return Setting(parameter=parameter, kind=list)
    return Setting(parameter=parameter, kind=kind if kind in KINDS else str)


def config_path() -> Path:
    """The config file, which need not exist. Raises BadConfig where there is no place for one."""
    folder = own_folder("config")
    if folder is None:
        raise BadConfig(f"there is no place for a config file: {NOWHERE}", hint=SET_ONE)
    return folder / "config.toml"


def read_config() -> dict[str, Any]:
    """The settings of the config file by option name; empty without one.

    Raises BadConfig for TOML that cannot be read, a key that is no setting, and a value of the wrong type.
    """
    if own_folder("config") is None:
        return {}  # whoever paints hears of it where the history would be written
    path = config_path()
    try:
        values = tomllib.loads(read_file(path, SETTINGS_BYTES).decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BadConfig(f"the config file cannot be read: {reason(error)}", where=str(path)) from error
    for key, value in values.items():
        check_setting(key, value, str(path))
    if "out" in values:
        values["out"] = _out_folder(values["out"], str(path))
    return values


def _out_folder(name: str, where: str) -> str:
    """The folder of a config file, where ~ is somebody's home. Raises BadConfig for somebody who is not known."""
    try:
        return str(Path(name).expanduser())
    except RuntimeError as error:
        raise BadConfig(f"out is {name!r}, and nobody's home is known by that name", where=where) from error


def defaults_from_config(command: str, arguments: Sequence[str] = ()) -> dict[str, Any]:
    """The config file in the form that Typer takes, by parameter name, as far as it is for a command line."""
    values = {**read_config(), **SESSION.get()}
    if command in SERVED:
        values = {key: value for key, value in values.items() if key in ("server", "token-file")}
    if command == "serve":
        values.pop("token-file", None)  # that of another server
    if command == "interpolate":
        # All frames share one seed: there it is not how many pictures somebody usually wants.
        values.pop("num", None)
    given = {argument.partition("=")[0] for argument in arguments}
    passed_over = {key for option in given for key in GIVE_WAY.get(option, ())}
    if "--prompts" not in given:
        passed_over |= FOR_PROMPT_FILES
    if "--rewrite" not in given and "rewrite" not in values:
        passed_over |= FOR_REWRITING
    values = {key: value for key, value in values.items() if key not in passed_over}
    return {settable()[key].parameter: value for key, value in values.items()}


def read_setting(name: str, text: str) -> object:
    """What a setting's text means: a value as TOML has it. Raises BadConfig for no setting, and what it cannot be."""
    setting = settable().get(name)
    meaning = _meaning(text, str if setting is None else setting.kind)
    check_setting(name, meaning, None)
    if setting is not None and setting.choices and meaning not in setting.choices:
        raise BadConfig(f"{name} is {text!r}, it should be {setting.described}")
    return known_dtype(text) if name == "dtype" else meaning


def _meaning(text: str, kind: type) -> object:
    """A value as TOML has it; text that does not fit stays text, and is refused by name."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is list:
        return text.split(",")
    if kind in (int, float, StepsOption, SizeOption):
        try:
            return float(text) if kind is float else int(text)
        except ValueError:
            return text
    return text


def check_setting(key: str, value: object, where: str | None) -> None:
    """Raises BadConfig for a key that is no setting, and for a value of the wrong kind."""
    known = settable()
    if key not in known:
        from dallecli.tasks.synonyms import meant

        close = meant(key, known)
        hint = f"did you mean {close}?" if close is not None else f"settings are {', '.join(known)}"
        what = "belongs to one run, and is no setting" if key in UNSETTABLE else "is not a setting"
        raise BadConfig(f"{key!r} {what}", where=where, hint=hint)
    kind = known[key].kind
    # A whole number is a number; but true is not a whole number, whatever Python says.
    types: Mapping[type, tuple[type, ...]] = {float: (int, float), StepsOption: (int, str), SizeOption: (int, str)}
    fits = isinstance(value, types.get(kind, kind)) and (kind is bool or not isinstance(value, bool))
    if kind is StepsOption and isinstance(value, str):
        fits = value in RESPACINGS
    if kind is SizeOption and isinstance(value, str):
        fits = _is_size(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise BadConfig(f"{key} is {value}, it should be a finite number", where=where)
    if not fits:
        raise BadConfig(f"{key} is {value!r}, it should be {known[key].described}", where=where)
    if isinstance(value, str) and ("\0" in value or not _is_utf8(value)):
        raise BadConfig(f"{key} is {value!r}, which holds characters that no option has", where=where)


def _is_size(text: str) -> bool:
    try:
        read_size(text)
    except ValueError:
        return False
    return True


def _is_utf8(text: str) -> bool:
    """False for bytes of a command line that are none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
