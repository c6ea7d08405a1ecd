"""The things of the world of looks, read from ``vocabulary.toml``."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

Fraction2 = tuple[float, float]
Box = tuple[float, float, float, float]

LOOKS = {"N": "noto", "F": "fluent", "T": "twemoji", "E": "emojitwo", "V": "noto-2017", "L": "line"}
"""Whose drawings there are, by the letter that the vocabulary names them with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One kind of object; the fields are explained at the top of ``vocabulary.toml``."""

    name: str
    plural: str
    code: str
    looks: str
    aliases: tuple[str, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    line: bool = True
    tint: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    keep: Mapping[str, Box] = field(default_factory=dict)
    turn: Mapping[str, int] = field(default_factory=dict)
    head: bool = False
    heads: Mapping[str, Fraction2] = field(default_factory=dict)
    verbs: tuple[str, ...] = ()
    weight: int = 0
    carries: str = ""
    seat: int = 0
    saddle: Fraction2 | None = None
    shelter: int = 0
    item: bool = False
    dyed: bool = False
    unmirrored: str = ""

    @property
    def drawn(self) -> str:
        """Every set that draws it, the line drawing last."""
        return self.looks + "L" * self.line


@lru_cache(maxsize=1)
def things() -> tuple[Thing, ...]:
    """Every thing, in label order: the index in this tuple is the class index everywhere in this world."""
    text = files("dallecli.training.world.looks").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["thing"]
    return tuple(Thing(**{key: _frozen(value) for key, value in row.items()}) for row in rows)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(one) for key, one in value.items()}
    return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=1)
def thing_index() -> dict[str, int]:
    """Class index of every name and alias."""
    return {name: index for index, thing in enumerate(things()) for name in (thing.name, *thing.aliases)}
