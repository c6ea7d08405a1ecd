"""The one builder of requests, for prompt lines, the command line, the axes of a sheet, Python, and HTTP bodies."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from dallecli.tasks.coding import Coding
from dallecli.tasks.embed import Embed
from dallecli.tasks.table import TASKS
from dallecli.tasks.task import Request
from dallecli.tasks.values import Values


def build_request(
    task: str,
    own: Mapping[str, object],
    defaults: Mapping[str, object] = MappingProxyType({}),
    *,
    pipes: bool = False,
    paths: bool = True,
) -> Request:
    """The request of a task from values by name, with the names and types of a prompt line's.

    The task must know all of `own`; `defaults` are used where `own` lacks a value. A file may have been read already.
    `pipes` says whether a file may be standard input or a pipe, `paths` whether text may name a file at all.

    Raises: RequestError.
    """
    values = Values(own=own, defaults=defaults, pipes=pipes, paths=paths)
    request = TASKS[task].build(values)
    values.finish(task)
    return replace(request, usual=frozenset(values.usual)) if values.usual else request


def build_embed(
    own: Mapping[str, object], defaults: Mapping[str, object] = MappingProxyType({}), *, paths: bool = True
) -> Embed:
    """The request for embeddings that values by name make, as `build_request`; its sources are read already.

    Raises: RequestError.
    """
    values = Values(own=own, defaults=defaults, paths=paths)
    request = Embed.build(values)
    values.finish("embed")
    return replace(request, usual=frozenset(values.usual))


def build_coding(
    task: str, own: Mapping[str, object], defaults: Mapping[str, object] = MappingProxyType({}), *, paths: bool = True
) -> Coding:
    """The request that turns pictures into codes, or codes into pictures, as `build_embed`. Raises: RequestError."""
    values = Values(own=own, defaults=defaults, pipes=True, paths=paths)
    request = Coding.build(task, values)
    values.finish(task)
    return request
