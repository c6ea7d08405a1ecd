"""From the body of a request of the API to what is asked: the values of our one builder of requests, and the answer.

What the API has and we do not is accepted and listed as ignored; our own dials come beside the API's fields, by the
names that they have in a prompt line; anything else is refused by name. No value is ever taken for a path or a URL.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dallecli.errors import PromptError
from dallecli.limits import API_COUNT
from dallecli.server.api_fields import ANSWERS, BACKGROUNDS, EFFORTS, FORMATS, IGNORED, MOST_PARTIALS, REWRITING, Route
from dallecli.server.body import Body
from dallecli.server.dials import DIALS
from dallecli.server.names import Names, only_base64
from dallecli.server.refusal import Refusal, invalid
from dallecli.server.sizes import read_size
from dallecli.size import Size
from dallecli.source import Source, is_picture, not_a_picture
from dallecli.tasks.interpolate import FRAMES
from dallecli.tasks.values import Values
from dallecli.weights.registry import reads_prompts

EDIT_STRENGTH: Final = 0.6
"""How much of a picture is painted over that is edited without a mask. Less hardly follows the words."""

OPAQUE: Final = 128
"""From here on alpha counts as opaque, as in masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How an answer looks.

    url, base64: what there is of each picture. partials: how many unfinished pictures a stream shows. progress: whether
    it tells of steps. keep: whether the pictures are to be among those that the page shows.
    """

    url: bool
    base64: bool
    format: str = "png"
    size: Size | None = None
    stream: bool = False
    partials: int = 0
    progress: bool = False
    keep: bool = False
    quality: str = "auto"
    background: str = "opaque"
    identifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client asks for.

    task, values: for the builder. effort: what `quality` means, for models that have an effort. count: how many
    pictures. rewrite: one of `REWRITING`; None is as the server's owner has it. ignored: the fields that nothing here
    does.
    """

    route: Route
    task: str
    values: Mapping[str, object]
    shape: Shape
    effort: str | None = None
    count: int = 1
    rewrite: str | None = None
    ignored: tuple[str, ...] = field(default=())

    @property
    def has_pictures(self) -> bool:
        """Whether it starts from pictures."""
        return not self.values.keys().isdisjoint(("image", "init", "ends"))

    @property
    def prompt(self) -> str | None:
        """The words of the client; None if there are none."""
        found = self.values.get("prompt", self.values.get("class"))
        return found if isinstance(found, str) else None


def translate(route: Route, body: Body, names: Names) -> Asked:
    """What the body of a request asks for. Decodes nothing yet, but hashes pictures.

    Raises: Refusal, RequestError.
    """
    fields = Values(own=body.values, defaults={})
    name = fields.text("model")
    count, size = _count(fields), read_size(fields.raw("size"))
    shape, effort = _shape(fields, name, size), EFFORTS[quality_of(fields)]
    dials = {dial: value for dial in DIALS if (value := fields.raw(dial)) is not None}
    values = {"model": names.meant(name), "n": count, **dials}
    ignored = tuple(one for one in IGNORED if fields.raw(one) is not None)
    task, rewrite = _task(route, fields, body, values), _rewrite(fields)
    _refuse_unknown(route, fields, body)
    if task == "interpolate":
        count = max(count, _frames(values))
    asked = Asked(route=route, task=task, values=values, shape=shape, effort=effort, count=count)
    return replace(asked, rewrite=rewrite, ignored=ignored)


def _rewrite(fields: Values) -> str | None:
    """Whether the prompt is to be rewritten. Raises Refusal."""
    value = fields.raw("rewrite")
    if isinstance(value, bool):
        value = "required" if value else "no"
    value = {"true": "required", "false": "no"}.get(value, value) if isinstance(value, str) else value
    if value is not None and value not in REWRITING:
        raise invalid("rewrite", f"{value!r} means nothing here", 'true, false or "optional"')
    return value


def quality_of(fields: Values) -> str:
    """The `quality` that is asked for. Raises Refusal."""
    quality = fields.text("quality")
    if quality is not None and quality not in EFFORTS:
        raise invalid("quality", f"no quality is called {quality!r}", f"one of {', '.join(EFFORTS)}")
    return quality if quality is not None else "auto"


def _count(fields: Values) -> int:
    count = fields.whole("n")
    if count is not None and not 1 <= count <= API_COUNT:
        raise invalid("n", f"the number of pictures is {count}", f"it goes from 1 to {API_COUNT}")
    return count if count is not None else 1


def _shape(fields: Values, name: str | None, size: Size | None) -> Shape:
    wanted = fields.text("response_format")
    if wanted is not None and wanted not in ANSWERS:
        raise invalid("response_format", f"no format is called {wanted!r}", "url or b64_json")
    written = fields.text("output_format")
    if written is not None and written not in FORMATS:
        raise invalid("output_format", f"no picture format is called {written!r}", "png, jpeg or webp")
    background = fields.text("background")
    if background == "transparent":
        raise invalid("background", "no model paints a transparent background", "opaque or auto")
    if background is not None and background not in BACKGROUNDS:
        raise invalid("background", f"no background is called {background!r}", "opaque or auto")
    partials, stream = fields.whole("partial_images"), fields.flag("stream")
    if partials is not None and not 0 <= partials <= MOST_PARTIALS:
        raise invalid("partial_images", f"the number is {partials}", f"it goes from 0 to {MOST_PARTIALS}")
    return Shape(
        url=not stream and (wanted == "url" or (wanted is None and not only_base64(name))),
        base64=stream or wanted != "url",
        format=FORMATS[written] if written is not None else "png",
        size=size,
        stream=stream,
        partials=partials if stream and partials is not None else 0,
        progress=fields.flag("progress") and stream,
        keep=fields.flag("keep"),
        quality=quality_of(fields),
        identifier=_identifier(fields),
    )


def _identifier(fields: Values) -> str | None:
    found = fields.text("safety_identifier")
    return found if found is not None else fields.text("user")


def _task(route: Route, fields: Values, body: Body, values: dict[str, object]) -> str:
    """The task that a route asks for; its own values are added."""
    prompt = fields.text("prompt")
    if prompt is not None and not prompt.strip():
        raise Refusal(PromptError("the prompt is empty", hint='"prompt": "a red fox in the snow"'))
    if route == "generations":
        if prompt is None and "class" not in values:
            raise Refusal(PromptError("no prompt was given", hint='"prompt": "a red fox in the snow"'))
        if prompt is not None:
            values["prompt" if reads_prompts(str(values["model"])) else "class"] = prompt
        return "generate"
    if route == "interpolations":
        return _interpolation(_pictures(fields, body, "image", "images"), fields, values)
    image = _one("image", _pictures(fields, body, "image", "images"))
    if image is None:
        raise invalid("image", "no picture was sent", "a form with the file in the part 'image'", code="missing_image")
    if route == "variations":
        values["image"] = image
        if prompt is not None:
            values["prompt"] = prompt
        return "vary"
    return _edit(prompt, image, _one("mask", _pictures(fields, body, "mask")), values)


def _interpolation(found: Sequence[bytes], fields: Values, values: dict[str, object]) -> str:
    """Paint the way between the pictures, from the first that was sent to the last."""
    if len(found) < 2:
        what = "there is no way between less than two pictures"
        raise invalid("image", what, "a form with the parts 'image[]'", code="missing_image")
    values["ends"] = [_source("image", data) for data in found]
    at, frames, noise = fields.numbers("at"), fields.whole("frames"), fields.text("noise")
    given: dict[str, object] = {"at": at, "frames": frames if frames is not None or at is not None else FRAMES}
    values |= {name: value for name, value in {**given, "noise": noise}.items() if value is not None}
    if fields.text("prompt") is not None:
        raise invalid("prompt", "the way between pictures has no words", "leave it out")
    if _frames(values) > API_COUNT:
        raise invalid("frames", f"the number of frames is {_frames(values)}", f"it goes from 2 to {API_COUNT}")
    return "interpolate"


def _frames(values: Mapping[str, object]) -> int:
    """How many frames are asked for of an interpolation."""
    frames, at = values.get("frames"), values.get("at")
    return frames if isinstance(frames, int) else len(at) if isinstance(at, tuple) else 1


def _edit(prompt: str | None, image: Source, mask: Source | None, values: dict[str, object]) -> str:
    """Repaint where the mask says; without one, where the picture is transparent; else paint over all of it."""
    if prompt is None:
        raise Refusal(PromptError("no prompt was given", hint='"prompt": "a red couch"'))
    values["prompt"] = prompt
    if mask is None and "expand" not in values and not _has_hole(image):
        values |= {"init": image, "strength": values.get("strength", EDIT_STRENGTH)}
        return "generate"
    values["image"] = image
    if mask is not None:
        values |= {"mask": [mask], "mask_mode": values.get("mask_mode", "alpha")}
    return "inpaint"


def _has_hole(image: Source) -> bool:
    """Whether a part of a picture is transparent, and so to be repainted. Raises BadPicture."""
    from dallecli.pictures.reading import read_picture

    alpha = read_picture(image).alpha
    return alpha is not None and any(alpha.histogram()[:OPAQUE])


def _one(name: str, found: Sequence[bytes]) -> Source | None:
    """The one picture of this name; None if there is none. Raises Refusal for more, BadPicture for what is none."""
    if len(found) > 1:
        raise invalid(name, f"{len(found)} pictures were sent as {name!r}", "one picture is worked on at a time")
    if not found:
        return None
    (data,) = found
    return _source(name, data)


def _source(name: str, data: bytes) -> Source:
    """Raises BadPicture for what is none."""
    if not is_picture(data):
        raise not_a_picture(data, name)
    return Source(kind="picture", name=name, sha256=hashlib.sha256(data).hexdigest(), data=data)


def _pictures(fields: Values, body: Body, *names: str) -> list[bytes]:
    """The pictures under these names: files of a form, or base64 in JSON."""
    found = [data for name in names for data in body.files.get(name, ())]
    for name in names:
        value = fields.raw(name)
        for part in value if isinstance(value, list) else [] if value is None else [value]:
            found.append(_decoded(names[0], part))
    return found


def _decoded(name: str, value: object) -> bytes:
    """A picture in JSON: base64, a data URL, or an object with one. Raises Refusal."""
    for key in ("b64_json", "image_url", "url"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    if not isinstance(value, str):
        raise invalid(name, "this is no picture in base64", '{"image": "data:image/png;base64,…"}', code=_CODE)
    start, comma, rest = value.partition(",")
    if start.startswith("data:") and comma:
        value = rest
    elif "://" in value[:32]:
        raise invalid(name, "no URL is fetched", "send the picture itself, in a form or in base64", code="url_not_read")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except ValueError as error:
        raise invalid(name, "this is no picture in base64", "a file_id is not read either", code=_CODE) from error


_CODE: Final = "invalid_image"


_FILES: Final[Mapping[Route, tuple[str, ...]]] = {
    "generations": (),
    "edits": ("image", "images", "mask"),
    "variations": ("image", "images"),
    "interpolations": ("image", "images"),
}
"""The parts of a form in which each path reads files."""


def _refuse_unknown(route: Route, fields: Values, body: Body) -> None:
    """Raises Refusal for fields and files that nobody read."""
    from dallecli.tasks.synonyms import meant

    for name in body.files:
        if name not in _FILES[route]:
            hint = " or ".join(_FILES[route][::2]) or "no pictures are read here"
            raise invalid(name, f"no file is read as {name!r}", hint, code="unknown_parameter")
    for name in body.values:
        if name not in fields.known:
            close = meant(name, fields.known)
            hint = f"did you mean {close!r}?" if close is not None else "GET /v1 lists what is read"
            raise invalid(name, f"{name!r} is not known here", hint, code="unknown_parameter")
