"""Kinds of values as JSON Schema has them, for the document of the API.

They say what is read, and not what is usual: a number may be text, as it has to be in a form, and null is the same as
nothing everywhere.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]
"""A schema, as plain data. In it, `minimum` and the like concern numbers only, and `pattern` texts only."""

WHOLE: Final = r"^\s*[-+]?[0-9]{1,30}\s*$"
NUMBER: Final = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*$"


def whole(says: str, least: int | None = None, most: int | None = None) -> Schema:
    """A whole number."""
    return _known(
        {"type": ["integer", "string", "null"], "minimum": least, "maximum": most, "pattern": WHOLE}, description=says
    )


def number(says: str, least: float | None = None, most: float | None = None, above: float | None = None) -> Schema:
    """A number from `least`, or above another one."""
    limits = {"minimum": least, "exclusiveMinimum": above, "maximum": most}
    return _known({"type": ["number", "string", "null"], **limits, "pattern": NUMBER}, description=says)


def numbers(says: str) -> Schema:
    """A list of numbers, a text with commas, or a single number."""
    one = {"type": ["number", "string"], "pattern": NUMBER}
    return {"type": ["array", "number", "string", "null"], "items": one, "description": says}


def steps(says: str, names: Collection[str], least: int) -> Schema:
    """A whole number, or one of the names of published steps."""
    pattern = f"{WHOLE}|^({'|'.join(names)})$"
    return {"type": ["integer", "string", "null"], "minimum": least, "pattern": pattern, "description": says}


def flag(says: str) -> Schema:
    """True or false."""
    return {"enum": [True, False, "true", "false", None], "description": says}


def text(says: str, known: Collection[str] | None = None) -> Schema:
    """A text, or one of those that are known."""
    if known is not None:
        return {"enum": [*known, None], "description": says}
    return {"type": ["string", "null"], "description": says}


def word_or_number(says: str) -> Schema:
    """A text, or a whole number."""
    return {"type": ["integer", "string", "null"], "description": says}


def anything(says: str) -> Schema:
    """A value that is not looked at."""
    return {"description": says}


def table(fields: Mapping[str, Schema], needed: Sequence[str] = (), says: str | None = None) -> Schema:
    """An object with these fields, of which some are always there."""
    return _known(
        {"type": "object", "properties": dict(fields), "required": list(needed) if needed else None}, description=says
    )


def listed(one: Schema, says: str | None = None) -> Schema:
    """A list of such things."""
    return _known({"type": "array", "items": one}, description=says)


def or_empty(schema: Schema) -> Schema:
    """The same, or an empty text: a field of a form that nobody filled in."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], ""]}
    return {**schema, "pattern": f"{schema['pattern']}|^$"} if "pattern" in schema else schema


def link(name: str) -> Schema:
    """A schema that the document has under a name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _known(schema: dict[str, Any], **more: Any) -> Schema:
    return {key: value for key, value in {**schema, **more}.items() if value is not None}
