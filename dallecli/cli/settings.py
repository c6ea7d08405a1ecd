"""What the user set outside of the command line: environment variables and the config file.

Precedence: options, then environment, then config file, then the model's defaults. Typer applies it: an option names
its variable (options.py), and the config file becomes the context's `default_map`. Nothing else reads the environment.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dallecli.errors import BadConfig

VARIABLES: Mapping[str, str] = {
    "DALLE_MODEL": "as `--model`",
    "DALLE_DEVICE": "as `--device`",
    "DALLE_HOME": "a folder for what dalle keeps: `config.toml`, the history, and digests of models",
    "HF_HOME": "where Hugging Face keeps downloaded models, and dalle those that it pulled",
    "HF_HUB_OFFLINE": "1: nothing is asked of the Hugging Face Hub",
    "HF_ENDPOINT": "another Hub, or a mirror of it",
    "NO_COLOR": "no colours on standard error",
    "DALLE_ENGINE": "`fake` paints flat colours without a model, for tests of scripts",
    "DALLE_FAKE_SECONDS": "how long each step of the fake engine takes",
}
"""The environment variables that change what dalle does, and how."""

CONFIG_KEYS: Mapping[str, type[str] | type[int] | type[float] | type[bool]] = {
    "model": str,
    "device": str,
    "dtype": str,
    "memory": str,
    "num": int,
    "size": int,
    "strict": bool,
    "steps": int,
    "prior-steps": int,
    "upsampler-steps": int,
    "guidance": float,
    "prior-guidance": float,
    "sampler": str,
    "prior-candidates": int,
    "out": str,
    "layout": str,
    "format": str,
    "no-metadata": bool,
    "preview": bool,
    "no-history": bool,
    "quiet": bool,
}
"""What a config file may set: the long names of options, without the hyphens in front."""

KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def config_path() -> Path:
    """The config file, which need not exist: in DALLE_HOME, else where the platform keeps such files."""
    home = os.environ.get("DALLE_HOME")
    if home:
        return Path(home) / "config.toml"
    from platformdirs import user_config_path

    return user_config_path("dalle", appauthor=False) / "config.toml"


def read_config() -> dict[str, Any]:
    """The settings of the config file by option name; empty without one.

    Raises BadConfig for TOML that cannot be read, a key that is no setting, and a value of the wrong type.
    """
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise BadConfig(f"the config file cannot be read: {error}", where=str(path)) from error
    for key, value in values.items():
        _check(key, value, path)
    if "out" in values:
        values["out"] = str(Path(values["out"]).expanduser())
    return values


def defaults_from_config(command: str) -> dict[str, Any]:
    """The config file in the form that Typer takes, by parameter name, as far as it is for a command."""
    values = {key.replace("-", "_"): value for key, value in read_config().items()}
    number = values.pop("num", None)
    # All frames share one seed: there it is not how many pictures somebody usually wants.
    return values if number is None or command == "interpolate" else values | {"n": number}


def _check(key: str, value: object, path: Path) -> None:
    if key not in CONFIG_KEYS:
        from dallecli.tasks.synonyms import meant

        close = meant(key, CONFIG_KEYS)
        hint = f"did you mean {close}?" if close is not None else f"settings are {', '.join(CONFIG_KEYS)}"
        raise BadConfig(f"{key!r} is not a setting", where=str(path), hint=hint)
    kind = CONFIG_KEYS[key]
    # A whole number is a number; but true is not a whole number, whatever Python says.
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise BadConfig(f"{key} is {value!r}, it should be {KINDS[kind]}", where=str(path))
