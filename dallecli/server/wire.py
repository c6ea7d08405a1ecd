"""What goes over the wire: JSON in ASCII, so that no text that a client sent can fail to be sent back."""

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


def to_json(value: object) -> bytes:
    """A value as JSON; infinities and NaN, which JSON does not have, are null."""
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":")).encode("ascii")


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(to_json(value), status, headers, "application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
