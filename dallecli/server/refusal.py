"""How the server says no: any error in the shape of the API, with our own three lines inside.

    {"error": {"message": "what\nhint: …", "type": "invalid_request_error", "param": "size", "code": "invalid_size",
               "dalle": {"error": "BadSize", "exit_code": 2, "what": …, "where": …, "hint": …}}}

The official clients try again after 408, 409, 429 and every status from 500 on, three times in all, unless
`x-should-retry: false` says that it is of no use. Node ignores a `Retry-After` of more than a minute.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from dallecli.errors import (
    BadInput,
    BadMask,
    BadPicture,
    BadSetting,
    BadSize,
    BadSteps,
    DalleError,
    InternalError,
    Interrupted,
    NetworkError,
    NoSuchDevice,
    NotDownloaded,
    NotKnown,
    OutOfMemory,
    PromptError,
    PromptTooLong,
    RequestError,
    TaskNotSupported,
    UnknownModel,
    UnknownSampler,
)
from dallecli.safe import safe
from dallecli.server.dials import DIALS
from dallecli.server.wire import json_response

_PARAMS: Final[Mapping[type[DalleError], str]] = {
    UnknownModel: "model",
    NotDownloaded: "model",
    TaskNotSupported: "model",
    PromptError: "prompt",
    PromptTooLong: "prompt",
    NotKnown: "prompt",
    BadSize: "size",
    BadSteps: "steps",
    UnknownSampler: "sampler",
    NoSuchDevice: "device",
    BadPicture: "image",
    BadMask: "mask",
}
"""The field that an error is about."""

_CODES: Final[Mapping[type[DalleError], str]] = {
    UnknownModel: "model_not_found",
    NotDownloaded: "model_not_downloaded",
    TaskNotSupported: "unsupported_task",
    BadSize: "invalid_size",
    BadPicture: "invalid_image",
    BadMask: "invalid_mask",
    BadInput: "invalid_image",
    BadSetting: "invalid_value",
    PromptError: "invalid_prompt",
    PromptTooLong: "prompt_too_long",
}
"""What the API calls an error; one that it has no name for gets that of its class."""

_QUOTED: Final = re.compile(r"'([a-z_]{1,40})' is |dalle \w+ does not know '([^']{1,100})'")

SPOKEN: Final = frozenset({*DIALS, "mask", "prompt", "size", "model"})
"""What is called the same in a request and on a command line."""

SHOULD_RETRY: Final = "x-should-retry"


class Refusal(Exception):
    """A request that is not answered with pictures, and why.

    `failure` has the words. The rest is only said where it differs from what follows from its class: the status, the
    field, the code, and after how many seconds it is worth trying again (None: never).
    """

    def __init__(
        self,
        failure: DalleError,
        *,
        status: int | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(failure.what)
        self.failure = failure
        self.status = status if status is not None else failure.http_status
        self.param = param if param is not None else _param(failure)
        self.code = code if code is not None else _code(failure)
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The error as the API has it."""
        failure = self.failure
        where = failure.where if self.status < 500 and isinstance(failure, RequestError) else None
        parts = (("", failure.what), ("where: ", where), ("hint: ", failure.hint))
        lines = [label + safe(_spoken(text)) for label, text in parts if text is not None]
        facts = {**failure.facts(), "where": where}
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        names = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return {
            "message": "\n".join(lines),
            "type": names.get(self.status, kind),
            "param": self.param,
            "code": self.code,
            "dalle": facts,
        }

    @property
    def headers(self) -> dict[str, str]:
        """Whether, and when, to try again."""
        if self.retry_after is not None:
            return {"retry-after": str(self.retry_after)}
        return {SHOULD_RETRY: "false"}

    def response(self) -> Response:
        """The answer as a whole."""
        return json_response({"error": self.body}, self.status, self.headers)


def refusal_of(error: BaseException) -> Refusal:
    """Any exception as an answer; of one that is not ours nothing but its kind is said."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Interrupted):
        return Refusal(error, retry_after=1)
    if isinstance(error, DalleError):
        return Refusal(error)
    if isinstance(error, MemoryError):
        return Refusal(OutOfMemory("the server is out of memory", hint="a smaller picture, or fewer at a time"))
    what = f"a mistake in dalle itself: {type(error).__name__}"
    return Refusal(InternalError(what, hint="the server's log says where, if it was started with --debug"))


def invalid(param: str, what: str, hint: str | None = None, *, code: str = "invalid_value") -> Refusal:
    """The refusal of the value of a field."""
    return Refusal(BadSetting(what, hint=hint), param=param, code=code)


def unusable(status: int, what: str, hint: str | None = None, *, code: str) -> Refusal:
    """The refusal of a request that cannot be read."""
    return Refusal(RequestError(what, hint=hint), status=status, code=code)


def _param(failure: DalleError) -> str | None:
    if failure.where in ("image", "mask"):
        return failure.where
    quoted = _QUOTED.match(failure.what) if isinstance(failure, BadSetting) else None
    if quoted:
        return quoted[1] if quoted[1] else quoted[2]
    kinds = (_PARAMS[kind] for kind in type(failure).__mro__ if kind in _PARAMS)
    return next(kinds, None)


def _code(failure: DalleError) -> str:
    if isinstance(failure, NetworkError):
        return "network_error"
    kinds = (_CODES[kind] for kind in type(failure).__mro__ if kind in _CODES)
    return next(kinds, re.sub(r"(?<!^)(?=[A-Z])", "_", type(failure).__name__).lower())


def _spoken(text: str) -> str:
    """Our words with the fields of a request in place of options: `--mask-mode alpha` is `mask_mode` alpha."""

    def field(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return name if name in SPOKEN else option[0]

    return re.sub(r"(?<![\w-])--([a-z][a-z-]*)", field, text)
