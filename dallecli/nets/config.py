"""Reading a published `config.json` into the frozen config dataclass of a network.

Published files lack fields that were added later, and hold fields that no network needs (`_class_name`,
`architectures`). A missing field takes the dataclass's default, which is the published library's; an unknown
field is ignored. A known field of the wrong type, a number that is not finite, or one that asks for a variant that is
not implemented here, is refused by name.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

C = TypeVar("C")

_KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a name", NoneType: "null"}


def read_config(cls: type[C], json: Mapping[str, Any]) -> C:
    """Return `cls` filled from `json`.

    Raises:
        ValueError: a field has a value of the wrong type, or `cls` refuses the combination.
    """
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]  # every config is a dataclass
        if field.name in json:
            values[field.name] = _checked(field.name, json[field.name], hints[field.name])
    try:
        return cls(**values)
    except TypeError as error:
        missing = str(error).rsplit(":", 1)[-1].strip()
        raise ValueError(f"missing {missing}") from None


def require(name: str, value: object, *allowed: object) -> None:
    """Refuse a config value that asks for a variant that is not implemented here.

    Raises:
        ValueError: `value` is none of `allowed`.
    """
    if value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise ValueError(f"{name} is {value!r}, supported is {choices}")


def _checked(name: str, value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        value = tuple(value)
    alternatives = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if not any(_fits(value, kind) for kind in alternatives):
        wanted = " or ".join(_KIND_NAMES.get(kind, "a list") for kind in alternatives)
        raise ValueError(f"{name} is {value!r}, expected {wanted}")
    return value


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(kind)[0]) for item in value)
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (kind is float and isinstance(value, float))):
            return False
        try:
            return bool(math.isfinite(value) and value >= 0)
        except OverflowError:  # a whole number that no float holds
            return False
    return isinstance(value, kind)
