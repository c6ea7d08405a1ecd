"""Options that would change nothing in the company of the others: refused by name, in one table.

Only what stands on the command line counts: a setting of the config file is what is usual, and may be idle.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from dallecli.errors import BadSetting
from dallecli.remote.choice import is_remote
from dallecli.source import EMBEDDING_SUFFIX, is_words

Given = Mapping[str, Any]
"""The values of all parameters of a command, by their names in Python."""

_MOVING: Final = (".gif", ".apng", ".mp4")
"""The suffixes of -o that make an animation by themselves."""

_DIALS_OF_FRAMES: Final = ("fps", "bounce", "hold")
_OF_THIS_MACHINE: Final = "{option} is about this machine, and a server computes"
_SERVED_WITH: Final = "dalle serve {option}; or --server none to compute here"
_PAINTING: Final = ("generate", "vary", "interpolate", "inpaint", "edit")
_PROBES: Final = ("pca", "vocabulary")
_SHEETS: Final = ("generate", "vary", "inpaint", "edit")


@dataclass(frozen=True, slots=True)
class Idle:
    """These options of these commands change nothing where `when` holds: `why`, and what to do instead."""

    commands: tuple[str, ...]
    options: tuple[str, ...]
    when: Callable[[Given], bool]
    why: str
    hint: str


def _animated(given: Given) -> bool:
    suffix = PurePath(given["output"]).suffix.lower() if given["output"] is not None else ""
    return given["animate"] is not None or suffix in _MOVING


def _axes(given: Given) -> bool:
    return given["x"] is not None or given["y"] is not None


def _axis(given: Given, name: str) -> bool:
    """Whether an axis of a sheet gives this option its values."""
    named = [axis.partition("=")[0].strip().replace("-", "_") for axis in (given["x"], given["y"]) if axis is not None]
    return name in named


def _words_only(given: Given) -> bool:
    return all(is_words(thing) for thing in given["things"])


def _pictures_only(given: Given) -> bool:
    things = (*given["things"], *(given["minus"] or ()), *(given["plus"] or ()))
    return not any(is_words(thing) for thing in things)


def _boxes_only(given: Given) -> bool:
    parts = given["mask"] or ()
    return bool(parts) and all(part.replace(",", "").replace(" ", "").isdigit() for part in parts)


# A line of a prompt file may have what the command line lacks, so what a request holds is not judged beside one.
TABLE: Final = (
    Idle(
        _PAINTING,
        ("server", "token_file"),
        lambda given: given["ray"] is not None,
        "--ray says who paints, and so does {option}",
        "leave out one of them",
    ),
    Idle(
        ("inpaint",),
        ("ray",),
        lambda given: bool(given["show_mask"]),
        "{option} is about painting, and --show-mask paints nothing",
        "leave out one of them",
    ),
    Idle(
        (*_PAINTING, "serve"),
        ("ray_workers", "weights_from"),
        lambda given: given["ray"] is None,
        "{option} is about a Ray cluster, and none is named",
        "--ray auto, or --ray HOST:6379",
    ),
    Idle(
        ("interpolate", "edit"),
        _DIALS_OF_FRAMES,
        lambda given: not _animated(given),
        "{option} is about an animation, and none is made",
        "--animate gif, or -o with a name in .gif or .mp4",
    ),
    Idle(
        ("edit",),
        ("animate", *_DIALS_OF_FRAMES),
        _axes,
        "a sheet with axes does not move, so {option} changes nothing",
        "leave out {option}, or --x and --y",
    ),
    Idle(
        ("vary",),
        ("inversion_steps",),
        lambda given: given["fidelity"] is None and given["file"] is None and not _axis(given, "fidelity"),
        "{option} is about the picture's own noise, and fresh noise is used",
        "--fidelity 0.8 uses its own",
    ),
    Idle(
        ("interpolate",),
        ("inversion_steps",),
        lambda given: given["noise"] != "inverted" and given["file"] is None,
        "{option} is about the pictures' own noise, and fresh noise is used",
        "--noise inverted uses their own",
    ),
    Idle(
        ("generate",),
        ("judge",),
        lambda given: given["best_of"] is None and given["file"] is None and not _axis(given, "best_of"),
        "{option} scores the pictures of a best-of, and there is none",
        "--best-of 16 paints so many, and keeps the best",
    ),
    Idle(
        ("embed",),
        ("inversion_steps", "size"),
        lambda given: not given["invert"],
        "{option} is about the noise of a picture, and none is kept",
        "--invert keeps it",
    ),
    Idle(
        ("embed",),
        ("prior_steps", "prior_guidance", "prior_candidates", "prior", "prior_temperature", "prior_top_k"),
        lambda given: not given["imagine"],
        "{option} is about the prior, which does not run",
        "--imagine lets it run",
    ),
    Idle(
        ("embed",),
        ("fast", "seed"),
        lambda given: not (given["imagine"] or given["invert"]),
        "an embedding takes no steps and no noise, so {option} changes nothing",
        "it is for --imagine and --invert",
    ),
    Idle(
        ("embed",),
        ("invert",),
        _words_only,
        "words have no noise to keep, so {option} changes nothing",
        "name a picture, or leave out {option}",
    ),
    Idle(
        ("embed",),
        ("imagine",),
        _pictures_only,
        "only sentences are imagined, and there are none",
        "name a sentence, or leave out {option}",
    ),
    Idle(
        ("generate", "vary", "inpaint"),
        ("n",),
        _axes,
        "a sheet with axes has one picture for each pair of values, so {option} changes nothing",
        "leave out {option}; --y seed=1,2,3 gives more pictures",
    ),
    Idle(
        _SHEETS,
        ("layout",),
        _axes,
        "a sheet with axes is one file, so {option} changes nothing",
        "leave out {option}",
    ),
    Idle(
        _PAINTING,
        ("layout",),
        lambda given: given["file"] is not None and given["layout"] != "files",
        "a prompt file makes one file for each picture, so {option} changes nothing",
        "dalle grid puts them on one sheet",
    ),
    Idle(
        ("inpaint",),
        ("x", "y", "dry_run"),
        lambda given: given["show_mask"],
        "--show-mask paints nothing, so {option} changes nothing",
        "leave one of them out",
    ),
    Idle(
        ("inpaint",),
        ("mask_mode",),
        _boxes_only,
        "a box is repainted whole, so {option} changes nothing",
        "leave out {option}",
    ),
    Idle(
        (*_PAINTING, *_PROBES, "embed", "replay", "grid"),
        ("force",),
        lambda given: given["output"] == "-",
        "standard output replaces no file, so {option} changes nothing",
        "leave out {option}",
    ),
    Idle(
        (*_PAINTING, *_PROBES, "replay"),
        ("no_history",),
        lambda given: given["output"] == "-",
        "what goes to standard output is never remembered, so {option} changes nothing",
        "leave out {option}",
    ),
    Idle(
        (*_PAINTING, *_PROBES, "rank", "embed", "encode", "decode", "replay"),
        ("memory",),
        lambda given: is_remote(given["server"]),
        _OF_THIS_MACHINE,
        _SERVED_WITH,
    ),
    Idle(
        (*_PAINTING, *_PROBES),
        ("batch", "compile"),
        lambda given: is_remote(given["server"]),
        _OF_THIS_MACHINE,
        _SERVED_WITH,
    ),
    Idle(
        (*_PAINTING, *_PROBES, "rank", "embed", "encode", "decode", "replay", "doctor"),
        ("token_file",),
        lambda given: not is_remote(given["server"]),
        "{option} is for a server, and none is used",
        "--server URL",
    ),
    Idle(
        ("history",),
        ("words", "last", "json"),
        lambda given: given["clear"],
        "--clear forgets everything, and chooses nothing",
        "leave out --clear to find pictures; alone it forgets all of them",
    ),
    Idle(
        ("embed",),
        ("output",),
        lambda given: PurePath(given["output"]).suffix.lower() not in ("", EMBEDDING_SUFFIX),
        "an embedding is a safetensors file, whatever its name in {option} says",
        f"end the name in {EMBEDDING_SUFFIX}",
    ),
)


def refuse_idle(command: str, given: Given, spelled: Mapping[str, str]) -> None:
    """Refuse the first option that changes nothing; `spelled` are those on the command line, as they are spelled.

    Raises BadSetting.
    """
    for idle in TABLE:
        if command not in idle.commands:
            continue
        for name in idle.options:
            if name in spelled and idle.when(given):
                option = spelled[name]
                raise BadSetting(idle.why.format(option=option), hint=idle.hint.format(option=option))
