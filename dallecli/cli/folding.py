"""Options as objects: a command takes a few frozen dataclasses, and Typer lists what is in them one by one."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_type_hints

from dallecli.cli.help import ORDER

R = TypeVar("R")


def folded(command: Callable[..., R]) -> Callable[..., R]:
    """Let the parameters of a command be dataclasses whose fields are annotated as Typer's options and arguments are.

    What is returned takes the fields by keyword, makes the objects of them, and calls the command. A field may be such
    a dataclass itself, and a parameter may be an option or argument of its own.

    Raises: TypeError for a name that two of the objects share.
    """
    declared = list(inspect.signature(command, eval_str=True).parameters.values())
    listed = [found for parameter in declared for found in _options(parameter)]
    names = [option.name for option in listed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{command.__name__} takes more than one option called {', '.join(twice)}")

    @functools.wraps(command)
    def unfolded(**values: object) -> R:
        return command(**{name: value for parameter in declared for name, value in _given(parameter, values)})

    # Typer looks at both; what `wraps` copied names the objects.
    unfolded.__annotations__ = {}
    vars(unfolded)["__signature__"] = Signature(_by_section(listed))
    return unfolded


def _options(parameter: Parameter) -> Iterator[Parameter]:
    """The options and arguments that a parameter or field stands for."""
    if _is_object(parameter):
        for inner in _fields(parameter.annotation):
            yield from _options(inner)
    else:
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY)


def _given(parameter: Parameter, values: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    """A parameter's name and value: an object if it stands for one, nothing for an option that was not given."""
    if _is_object(parameter):
        parts = (part for inner in _fields(parameter.annotation) for part in _given(inner, values))
        yield parameter.name, parameter.annotation(**dict(parts))
    elif parameter.name in values:
        yield parameter.name, values[parameter.name]


def _is_object(parameter: Parameter) -> bool:
    return is_dataclass(parameter.annotation)


@functools.cache
def _fields(kind: type[Any]) -> tuple[Parameter, ...]:
    types = get_type_hints(kind, include_extras=True)
    return tuple(
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=types[field.name])
        for field in fields(kind)
    )


def _default(field: Field[Any]) -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default if field.default is not MISSING else Parameter.empty


def _by_section(options: Iterable[Parameter]) -> list[Parameter]:
    """The options with those of one section of the help together, in the order of the section if it has one."""
    sections: dict[str | None, list[Parameter]] = {}
    for option in options:
        (info,) = getattr(option.annotation, "__metadata__", (None,))
        sections.setdefault(getattr(info, "rich_help_panel", None), []).append(option)
    for section, found in sections.items():
        names = ORDER.get(section, ())
        found.sort(key=lambda option: names.index(option.name) if option.name in names else len(names))
    return [option for found in sections.values() for option in found]
