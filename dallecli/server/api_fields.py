"""The fields of the images API: what each may be, on which paths it is read, and which of them do nothing here.

`translate` reads them; the document of the API is made from this table, and a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from dallecli.limits import API_COUNT, API_SIDE
from dallecli.server.schema import Schema, anything, flag, numbers, text, whole
from dallecli.tasks.interpolate import NOISES

Route = Literal["generations", "edits", "variations", "interpolations"]
ROUTES: Final[tuple[Route, ...]] = get_args(Route)

REWRITING: Final = ("required", "optional", "no")
"""Whether a prompt is rewritten: or else the request fails; or else it is painted as it was sent; not at all."""

EFFORTS: Final[Mapping[str, str | None]] = {
    **dict.fromkeys(("auto", "standard", "medium"), None),
    "low": "fast",
    **dict.fromkeys(("high", "hd", "xhigh", "max"), "best"),
}
"""What `quality` means: how much work goes into a picture."""

FORMATS: Final[Mapping[str, str]] = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp"}
"""What `output_format` means."""

ANSWERS: Final = ("url", "b64_json")
BACKGROUNDS: Final = ("opaque", "auto")
MOST_PARTIALS: Final = 3

SIZE: Final = r"\s*(\d{1,6})(?:[xX×](\d{1,6}))?\s*"
"""A width, and a height where it is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `ignored`: the API has it, and nothing here does it."""

    schema: Schema
    routes: tuple[Route, ...] = ROUTES
    ignored: bool = False


_WAY: Final[tuple[Route, ...]] = ("interpolations",)


def _ignored(*names: str) -> dict[str, Field]:
    return {name: Field(schema=anything("Accepted, and does nothing here."), ignored=True) for name in names}


FIELDS: Final[Mapping[str, Field]] = {
    "prompt": Field(schema=text("What to paint. Of a variation: words that the decoder reads beside the picture.")),
    "model": Field(schema=text("A name from /v1/models, or one of OpenAI's, which stands for the default model.")),
    "n": Field(schema=whole("How many pictures; 1 if it is not said.", 1, API_COUNT)),
    "size": Field(
        schema={
            "type": ["string", "integer", "null"],
            "pattern": f"^({SIZE})$|^auto$|^$",
            "minimum": 1,
            "maximum": API_SIDE,
            "description": f"Width x height in pixels, up to {API_SIDE} each, or `auto`: as large as it was painted.",
        }
    ),
    "quality": Field(schema=text("How much work goes into a picture, for models that take steps.", EFFORTS)),
    "response_format": Field(schema=text("What an answer has of each picture; both if it is not said.", ANSWERS)),
    "output_format": Field(schema=text("The format of the pictures; png if it is not said.", FORMATS)),
    "background": Field(schema=text("No model paints a transparent one.", BACKGROUNDS)),
    "stream": Field(schema=flag("Answer with events, as they happen.")),
    "partial_images": Field(
        schema=whole("How many unfinished pictures a stream shows of each picture.", 0, MOST_PARTIALS)
    ),
    **_ignored("style", "moderation"),
    "progress": Field(schema=flag("Of a stream: tell of its steps, too.")),
    "keep": Field(schema=flag("Keep the pictures among those that the server's page shows.")),
    "rewrite": Field(
        schema={
            "enum": [True, False, "true", "false", *REWRITING, None],
            "description": "Have the prompt rewritten before it is painted, where the server can; `optional`: or not.",
        }
    ),
    "at": Field(schema=numbers("Where between the pictures frames are painted: 0 is the first."), routes=_WAY),
    "frames": Field(schema=whole("How many frames are painted, evenly spaced.", 2, API_COUNT), routes=_WAY),
    "noise": Field(schema=text("One noise for all frames, or those of the pictures.", NOISES), routes=_WAY),
    "user": Field(schema=text("Does nothing, and comes back as `safety_identifier`."), ignored=True),
    "safety_identifier": Field(schema=text("Does nothing, and comes back."), ignored=True),
    **_ignored("complexity", "frame_count", "frame_duration_ms", "svg"),
    **_ignored("output_compression", "input_fidelity", "markup"),
}
"""All fields but those that are pictures: see `PICTURES`."""

IGNORED: Final = tuple(name for name, field in FIELDS.items() if field.ignored)

PICTURES: Final[Mapping[Route, tuple[str, ...]]] = {
    "generations": (),
    "edits": ("image", "images", "mask"),
    "variations": ("image", "images"),
    "interpolations": ("image", "images"),
}
"""The names under which pictures are read: files of a form, or base64 in JSON. `image` and `images` are one thing."""
