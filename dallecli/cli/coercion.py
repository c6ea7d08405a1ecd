"""Plain values of options, read without pydantic: Typer imports it for every value, which takes a tenth of a second.

A word, a whole number, a decimal, a path and one of some words mean what they say. Anything else, and whatever is
wrong, is left to Typer, so that nothing else changes: neither what is understood nor how it is refused.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from typer._coercion import RuntimeParam, TypeDescriptor, build_runtime_param
from typer.models import ParameterInfo

_WHOLE: Final = re.compile(r"-?[0-9]{1,15}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")

UNREAD: Final = object()
"""What a value is that is not plain."""


@dataclass(frozen=True)
class PlainParam(RuntimeParam):
    """How the values of a parameter are read: plain ones here, others as Typer does it."""

    descriptor: TypeDescriptor

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        found = plain(value, self.annotation, self.parameter_info)
        if found is UNREAD:
            found = build_runtime_param(self.descriptor)._coerce_value(value, param=param, ctx=ctx)
        return found


def read_plainly(parameters: Iterable[Any]) -> None:
    """Have the values of these parameters read so."""
    for parameter in parameters:
        descriptor = getattr(parameter, "type_descriptor", None)
        if descriptor is not None and parameter._runtime_param is None:
            parameter._runtime_param = PlainParam(descriptor.parameter_info, descriptor.annotation, descriptor)


def plain(value: object, annotation: Any, info: ParameterInfo) -> Any:
    """What a value means for a kind of parameter; `UNREAD` if it is not plain."""
    if info.parser is not None or info.min is not None or info.max is not None or info.allow_dash or info.path_type:
        return UNREAD
    if get_origin(annotation) is list and isinstance(value, list | tuple):
        (inner,) = get_args(annotation)
        found = [plain(one, inner, info) for one in value]
        return UNREAD if any(one is UNREAD for one in found) else found
    if type(value) is annotation and annotation in (str, int, float):
        return value
    if not isinstance(value, str):
        return UNREAD
    if annotation is int and _WHOLE.fullmatch(value):
        return int(value)
    if annotation is float and _DECIMAL.fullmatch(value):
        return float(value)
    if annotation is Path and not (info.exists or info.resolve_path or "\0" in value):
        return UNREAD if _checked(info, value) else Path(value)
    if value in get_args(annotation) and all(isinstance(word, str) for word in get_args(annotation)):
        return value
    return UNREAD


def _checked(info: ParameterInfo, value: str) -> bool:
    """Whether Typer would look at what is there under a path."""
    return not (info.file_okay and info.dir_okay) or info.writable or not info.readable
