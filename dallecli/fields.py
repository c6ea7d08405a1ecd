"""The strict reader of tables from JSON and TOML: known keys, each of one kind, and nothing else.

    fields = Fields(tomllib.loads(text), BadFile, where="weights.toml")
    stage = fields.table("stages").table("decoder")
    steps = stage.whole("steps", least=2)       # "stages.decoder.steps is 1, not a whole number from 2 on"
    stage.finish()                              # "unknown: stages.decoder.step", if there is such a key

A table that is read so has no typing error that goes unnoticed: a key that is missing, of another kind, or left over is
refused by its path. A key that is there twice is refused where JSON is read (`read_json`); TOML never has one.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal, TypeGuard, overload

from dallecli.errors import DalleError

SHOWN: Final = 80
"""So many characters of a wrong value are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How a reader says what is wrong: sentences with {path}, {value} and {wanted} to be filled in."""

    not_a_table: str = "this is not a table"
    """The whole of what is read is something else."""

    missing: str = "{path} is missing"
    """A key is not there."""

    wrong: str = "{path} is {value}, not {wanted}"
    """A value is of another kind, or outside of its range."""

    unknown: str = "unknown: {path}"
    """Keys are left over; {path} lists them."""

    hint: str | None = None
    """What to do about any of these; None: the key that was perhaps meant, if one is left over."""


PLAIN: Final = Wording()


class Fields:
    """Takes known keys out of one table, each once, and notices what is missing, of another kind, or left over.

    Every method raises the caller's error. `optional` allows null, which is read as None; the key has to be there all
    the same. What may be absent is asked for first: `fields.text("clip") if "clip" in fields else None`. The keys that
    are left are what iterating gives.
    """

    def __init__(
        self,
        table: object,
        error: type[DalleError],
        *,
        where: str | None = None,
        wording: Wording = PLAIN,
        path: str = "",
    ) -> None:
        """A reader of `table`; anything but a table is refused.

        error: what is raised. where: the file, for the error. wording: what the error says. path: of the table in the
        file, as dotted keys; "" for the whole file.
        """
        self._error, self._where, self._wording, self._path = error, where, wording, path
        self._asked: set[str] = set()
        if not isinstance(table, dict):
            raise self._wrong(path, table, "a table") if path else self.problem(wording.not_a_table)
        self._left: dict[str, object] = dict(table)

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._left))

    def take(self, key: str) -> object:
        """Any value: for what no other method reads. Its caller refuses it with `wrong`."""
        if key not in self:
            raise self.problem(self._wording.missing.format(path=self._full(key)))
        return self._left.pop(key)

    def null(self, key: str) -> bool:
        """Whether the value is null; if so, it is taken."""
        return key in self and self._left[key] is None and self._left.pop(key) is None

    @overload
    def text(self, key: str, *, optional: Literal[False] = False) -> str: ...
    @overload
    def text(self, key: str, *, optional: bool) -> str | None: ...
    def text(self, key: str, *, optional: bool = False) -> str | None:
        """A text, which may be empty."""
        if optional and self.null(key):
            return None
        value = self.take(key)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a text")
        return value

    def match(self, key: str, pattern: str, wanted: str = "a text") -> str:
        """A text that is wholly of this pattern; `wanted` says so in words."""
        value = self.take(key)
        if not _matches(value, pattern):
            raise self.wrong(key, value, wanted)
        return value

    def choice(self, key: str, known: Collection[str]) -> str:
        """One of the texts that are known."""
        value = self.take(key)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(key, value, f"one of {', '.join(known)}")
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    @overload
    def whole(
        self, key: str, *, least: int | None = None, most: int | None = None, optional: Literal[False] = False
    ) -> int: ...
    @overload
    def whole(self, key: str, *, least: int | None = None, most: int | None = None, optional: bool) -> int | None: ...
    def whole(
        self, key: str, *, least: int | None = None, most: int | None = None, optional: bool = False
    ) -> int | None:
        """A whole number from `least` to `most`."""
        if optional and self.null(key):
            return None
        value = self.take(key)
        if not _is_whole(value, least) or (most is not None and value > most):
            raise self.wrong(key, value, "a whole number" + _from(least) + ("" if most is None else f" up to {most}"))
        return value

    def whole_or_choice(
        self, key: str, known: Collection[str], *, least: int | None = None, most: int | None = None
    ) -> int | str:
        """A whole number from `least` to `most`, or one of the texts that are known."""
        if key in self and isinstance(self._left[key], str):
            return self.choice(key, known)
        return self.whole(key, least=least, most=most)

    @overload
    def number(self, key: str, *, least: float | None = None, optional: Literal[False] = False) -> float: ...
    @overload
    def number(self, key: str, *, least: float | None = None, optional: bool) -> float | None: ...
    def number(self, key: str, *, least: float | None = None, optional: bool = False) -> float | None:
        """A finite number, `least` or more."""
        if optional and self.null(key):
            return None
        value = self.take(key)
        if not _is_number(value, least):
            raise self.wrong(key, value, "a number" + _from(least))
        return float(value)

    @overload
    def wholes(self, key: str, *, least: int | None = None, optional: Literal[False] = False) -> tuple[int, ...]: ...
    @overload
    def wholes(self, key: str, *, least: int | None = None, optional: bool) -> tuple[int, ...] | None: ...
    def wholes(self, key: str, *, least: int | None = None, optional: bool = False) -> tuple[int, ...] | None:
        """A list of whole numbers, each `least` or more."""
        if optional and self.null(key):
            return None
        values = self._list(key, wanted := "a list of whole numbers" + _from(least))
        if not all(_is_whole(value, least) for value in values):
            raise self.wrong(key, values, wanted)
        return tuple(values)

    @overload
    def numbers(self, key: str, *, optional: Literal[False] = False) -> tuple[float, ...]: ...
    @overload
    def numbers(self, key: str, *, optional: bool) -> tuple[float, ...] | None: ...
    def numbers(self, key: str, *, optional: bool = False) -> tuple[float, ...] | None:
        """A list of finite numbers."""
        if optional and self.null(key):
            return None
        values = self._list(key, wanted := "a list of numbers")
        if not all(_is_number(value, None) for value in values):
            raise self.wrong(key, values, wanted)
        return tuple(float(value) for value in values)

    def texts(
        self, key: str, pattern: str = ".*", wanted: str = "a list of texts", *, least: int = 0
    ) -> tuple[str, ...]:
        """A list of `least` or more texts, each wholly of this pattern."""
        values = self._list(key, wanted, least)
        if not all(_matches(value, pattern) for value in values):
            raise self.wrong(key, values, wanted)
        return tuple(values)

    def choices(self, key: str, known: Collection[str]) -> tuple[str, ...]:
        """A list of texts that are known."""
        values = self._list(key, wanted := f"some of {', '.join(known)}")
        if not all(isinstance(value, str) and value in known for value in values):
            raise self.wrong(key, values, wanted)
        return tuple(values)

    def table(self, key: str, *, defaults: Mapping[str, object] | None = None) -> "Fields":
        """The reader of a table in this one, on top of `defaults`."""
        inner = self._inner(key, self.take(key))
        inner._left = {**(defaults if defaults is not None else {}), **inner._left}
        return inner

    def tables(self, key: str, *, least: int = 0) -> tuple["Fields", ...]:
        """The readers of a list of `least` or more tables."""
        values = self._list(key, wanted := "a list of tables", least)
        if not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, values, wanted)
        return tuple(self._inner(f"{key}[{k}]", value) for k, value in enumerate(values))

    def finish(self) -> None:
        """Refuse what was not taken."""
        if not self._left:
            return
        close = [match for key in self._left for match in get_close_matches(key, self._asked, n=1)]
        hint = f"did you mean {close[0]!r}?" if close else None
        listed = ", ".join(self._full(key) for key in self._left)
        raise self.problem(self._wording.unknown.format(path=listed), hint)

    def wrong(self, key: str, value: object, wanted: str) -> DalleError:
        """The error about a value that was taken: it is not what was wanted."""
        return self._wrong(self._full(key), value, wanted)

    def problem(self, what: str, hint: str | None = None) -> DalleError:
        """The error about anything else in this file."""
        return self._error(what, self._where, self._wording.hint if self._wording.hint is not None else hint)

    def _inner(self, key: str, value: object) -> "Fields":
        return Fields(value, self._error, where=self._where, wording=self._wording, path=self._full(key))

    def _list(self, key: str, wanted: str, least: int = 0) -> list[Any]:
        value = self.take(key)
        if not isinstance(value, list) or len(value) < least:
            raise self.wrong(key, value, wanted)
        return value

    def _full(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _wrong(self, path: str, value: object, wanted: str) -> DalleError:
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        return self.problem(self._wording.wrong.format(path=path, value=shown, wanted=wanted))


def read_json(text: str | bytes) -> Any:
    """What a text in JSON holds, as the standard has it.

    Raises:
        ValueError: it is not UTF-8 or not JSON (`json.JSONDecodeError`), holds a key twice, NaN or an infinity, or is
            nested too deeply.
    """
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            object_pairs_hook=_with_unique_keys,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"{key!r} is there twice")
        table[key] = value
    return table


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _matches(value: object, pattern: str) -> TypeGuard[str]:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII | re.DOTALL) is not None


def _is_whole(value: object, least: int | None) -> TypeGuard[int]:
    # A bool is an int in Python, but `"seed": true` is a mistake.
    return type(value) is int and (least is None or value >= least)


def _is_number(value: object, least: float | None) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) and (least is None or value >= least)
    except OverflowError:  # a whole number that no float holds
        return False


def _from(least: float | None) -> str:
    return "" if least is None else f" from {least} on"
