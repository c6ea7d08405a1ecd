"""What is set for all lines of a shell: options by their long names, before the environment and the config file."""

import json
import os
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Any, Final, Self

from dallecli.cli.settings import SESSION, read_config, read_setting, settable
from dallecli.errors import BadConfig

SHORT: Final[Mapping[str, tuple[str, str | None]]] = {
    "n": ("num", None),
    "s": ("seed", None),
    "m": ("model", None),
    "q": ("quiet", None),
    "best": ("fast", "false"),
    "decoder-steps": ("steps", None),
}
"""What options are called besides, and what they then mean."""


class Settings:
    """The settings of a shell, while it is open; a variable of the environment that says the same waits until then."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._values: dict[str, Any] = {}
        self._variables: dict[str, str] = {}
        self._token: Token[Mapping[str, Any]] | None = None
        self._first = settings

    def __enter__(self) -> Self:
        self._token = SESSION.set(self._values)
        for name, value in self._first.items():
            self._put(name, value)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.environ.update(self._variables)
        if self._token is not None:
            SESSION.reset(self._token)

    @property
    def quiet(self) -> bool:
        return bool(self.value("quiet"))

    @property
    def remembers(self) -> bool:
        """Whether what is typed may be kept."""
        return not self.value("no-history")

    def value(self, name: str) -> Any:
        """What counts for the next line, as far as somebody has said it."""
        return self._values[name] if name in self._values else read_config().get(name)

    def listed(self) -> list[tuple[str, str]]:
        """The names and values of all that is set."""
        return [
            (name, json.dumps(value) if not isinstance(value, str) else value) for name, value in self._values.items()
        ]

    def set(self, option: str, text: str | None) -> None:
        """Set an option; one that is either given or not needs no text. Raises BadConfig."""
        name, meaning = self._named(option)
        if text is None:
            text = meaning
        setting = settable().get(name)
        if text is None and setting is not None and setting.kind is bool:
            text = "true"
        if text is None and setting is not None:
            raise BadConfig(f"what is {name} to be?", hint=f"set {name} VALUE; unset {name} takes it back")
        self._put(name, read_setting(name, text if text is not None else ""))

    def unset(self, option: str) -> None:
        """Take a setting back. Raises BadConfig."""
        name, _ = self._named(option)
        if name not in self._values:
            raise BadConfig(f"{name} is not set here", hint="set lists what is")
        del self._values[name]
        variable = self._variable(name)
        if variable in self._variables:
            os.environ[variable] = self._variables.pop(variable)

    def _put(self, name: str, value: object) -> None:
        self._values[name] = value
        variable = self._variable(name)
        if variable in os.environ:
            self._variables[variable] = os.environ.pop(variable)

    def _variable(self, name: str) -> str:
        setting = settable().get(name)
        return setting.variable if setting is not None and setting.variable is not None else ""

    def _named(self, option: str) -> tuple[str, str | None]:
        name = option.lstrip("-")
        return SHORT.get(name, (name, None))
