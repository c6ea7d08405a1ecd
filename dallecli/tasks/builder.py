"""The one builder of requests: prompt lines, the command line, axes of a sheet and HTTP bodies all use it."""

from collections.abc import Mapping
from types import MappingProxyType

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
) -> Request:
    """The request that a task makes of values by name, with the names and types of a prompt line's.

    `own` must all be known to the task, `defaults` stand in for what is not there; a file may be read already. `pipes`
    says whether a file may be standard input or a pipe.

    Raises: RequestError.
    """
    values = Values(own=own, defaults=defaults, pipes=pipes)
    request = TASKS[task].build(values)
    values.finish(task)
    return request


def build_embed(own: Mapping[str, object], defaults: Mapping[str, object] = MappingProxyType({})) -> Embed:
    """The request for embeddings that values by name make, as `build_request`; its sources are read already.

    Raises: RequestError.
    """
    values = Values(own=own, defaults=defaults)
    request = Embed.build(values)
    values.finish("embed")
    return request
