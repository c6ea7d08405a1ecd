"""In which form pictures go where: decided, and checked, before anything is painted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dallecli.cli.destination import Destination, choose_destination
from dallecli.cli.options import Animated, AnimationOptions, Arrangement, Format, OutputOptions
from dallecli.errors import BadOutput
from dallecli.recipe import Motion
from dallecli.safe import safe

# The suffixes of animations, the one that every program knows first. Those of pictures need --animate beside them.
ANIMATION_SUFFIXES: Mapping[Animated, tuple[str, ...]] = {
    "gif": (".gif",),
    "webp": (".webp",),
    "apng": (".png", ".apng"),
    "mp4": (".mp4",),
}
_SUFFIXES: Mapping[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where pictures go, and in which form. With `animated`, frames become one of these instead of a sheet."""

    destination: Destination
    layout: Arrangement
    format: Format
    metadata: bool
    animated: Animated | None = None
    motion: Motion | None = None
    notice: str | None = None
    """What somebody may have expected who chose this name."""


def plan(
    options: OutputOptions,
    *,
    pictures: int,
    results: int = 1,
    noun: str = "prompts",
    animation: AnimationOptions | None = None,
    as_json: bool,
) -> Output:
    """Decide where `pictures` of each of `results` prompts (or what `noun` says) go, and in which form.

    They become an animation if `animation` says so, or the name of the file does where there can be one.

    Raises: BadOutput where the options contradict each other; BadSetting, MissingExtra for an animation that cannot be.
    """
    destination = choose_destination(options, results=results, noun=noun, as_json=as_json, redirected="picture.png")
    if destination.certain and pictures > 1 and options.layout != "grid":
        raise BadOutput(
            f"-o names one file, but --layout {options.layout} makes several", hint="use --out for a folder"
        )
    animated = _animated(destination, animation, pictures) if animation is not None else None
    format = options.format
    if destination.file is not None and animated is None:
        format = format_of(destination.file, format, moving=animation is not None)
    return Output(
        destination=destination,
        layout=options.layout,
        format=format if format is not None else "png",
        metadata=not options.no_metadata,
        animated=animated,
        motion=animation.motion if animation is not None and animated is not None else None,
        notice=_still(destination, pictures) if animation is not None and animated is None else None,
    )


def _animated(destination: Destination, animation: AnimationOptions, pictures: int) -> Animated | None:
    """The animation that was asked for, by name or by the suffix of a file. Raises as `plan`."""
    suffix = destination.file.suffix.lower() if destination.file is not None else None
    unlike_pictures = {
        name: kind for kind, names in ANIMATION_SUFFIXES.items() for name in names if name not in _SUFFIXES
    }
    asked = animation.animate
    kind = asked if asked is not None else unlike_pictures.get(suffix if suffix is not None else "")
    if kind is None:
        return None
    if suffix is not None and suffix not in ANIMATION_SUFFIXES[kind]:
        hint = f"end the name in {ANIMATION_SUFFIXES[kind][0]}, or leave --animate out"
        raise BadOutput(f"{destination.file} is not a name for an animated {kind}", hint=hint)
    if pictures < 2:
        raise BadOutput("one picture does not move", hint="--frames or --sweep make more of them")
    from dallecli.pictures.animation import Tempo, check_format

    check_format(kind, Tempo(fps=animation.fps, bounce=animation.bounce, hold=animation.hold))
    return kind


def _still(destination: Destination, pictures: int) -> str | None:
    """What to say of frames in a file that could also be an animation; of .png nobody expects that."""
    if destination.file is None or destination.file.suffix.lower() != ".webp" or pictures < 2:
        return None
    return f"{safe(destination.file.name, 100)} is one sheet of all frames; --animate webp makes it move"


def format_of(path: Path, asked: Format | None, *, moving: bool) -> Format:
    """The format of a picture file: what is asked for, or what its name says. Raises BadOutput."""
    named = _SUFFIXES.get(path.suffix.lower())
    if named is None and asked is None:
        more = ", .gif or .mp4 for an animation" if moving else ""
        raise BadOutput(
            f"what format is {path.name!r}?", hint=f"end the name in .png, .jpg or .webp{more}, or say --format"
        )
    if asked is None or named is None:
        return named if named is not None else cast(Format, asked)
    if asked != named:
        raise BadOutput(f"{path.name!r} is a name for {named}, but --format is {asked}", hint="leave one of them out")
    return asked
