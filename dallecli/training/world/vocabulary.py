"""The things the starter model knows, read from ``vocabulary.toml``."""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

Fraction2 = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One kind of object; the fields are explained at the top of ``vocabulary.toml``."""

    name: str
    plural: str
    codepoints: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    tint: tuple[int, int, int] | None = None
    keep: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    turn: int = 0
    head: Fraction2 | None = None
    verbs: tuple[str, ...] = ()
    weight: int = 0
    seat: int = 0
    saddle: Fraction2 = (0.5, 0.3)
    shelter: int = 0
    item: bool = False


@lru_cache(maxsize=1)
def things() -> tuple[Thing, ...]:
    """Every thing, in label order: the index in this tuple is the class index everywhere."""
    text = files("dallecli.training.world").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["thing"]
    return tuple(Thing(**{key: _frozen(value) for key, value in row.items()}) for row in rows)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=1)
def thing_index() -> dict[str, int]:
    """Class index of every name and alias."""
    return {name: index for index, thing in enumerate(things()) for name in (thing.name, *thing.aliases)}
