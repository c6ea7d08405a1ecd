"""How a picture was made: a request with nothing left open, as frozen data, to JSON and back.

Pictures carry it (picture.py), `dalle show` prints it. The JSON is plain ASCII, so that neither a terminal nor a
metadata reader can be talked into anything by a prompt.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from dallecli import __version__
from dallecli.errors import BadRecipe, BadSize, PromptTooLong, TaskNotSupported
from dallecli.request import STAGES, Generate, Stage, StageSettings

FORMAT = "dalle-recipe/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One task with every dial set.

    `dropped` are the words at the prompt's end that the model did not read. `stages` holds the stages that run, keyed
    as in `request.STAGES`. `digest` (sha256 of the weights, hex), `device` and `dtype` are None, or as asked, until an
    engine has opened the model; the recipe of a finished picture states what was used.
    """

    task: str
    prompt: str
    dropped: tuple[str, ...]
    model: str
    digest: str | None
    seed: int
    count: int
    size: int
    stages: Mapping[str, StageSettings]
    prior_candidates: int
    device: str | None
    dtype: str | None
    versions: Mapping[str, str]

    def single(self, k: int) -> "Recipe":
        """The recipe of picture k alone, from 0. Raises IndexError outside of the count."""
        if not 0 <= k < self.count:
            raise IndexError(f"picture {k} of {self.count}")
        return replace(self, seed=self.seed + k, count=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in the order in which a person wants to read it."""
        return {
            "format": FORMAT,
            "task": self.task,
            "prompt": self.prompt,
            "dropped": list(self.dropped),
            "model": self.model,
            "digest": self.digest,
            "seed": self.seed,
            "count": self.count,
            "size": self.size,
            "stages": {
                name: {"sampler": stage.sampler, "steps": stage.steps, "guidance": stage.guidance}
                for name, stage in self.stages.items()
            },
            "prior_candidates": self.prior_candidates,
            "device": self.device,
            "dtype": self.dtype,
            "versions": dict(self.versions),
        }

    def to_json(self) -> str:
        """One line of ASCII."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read what `to_json` wrote. Raises BadRecipe for anything else: unknown, missing, doubled or mistyped keys."""
        try:
            data = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            raise BadRecipe(f"the recipe is not JSON: {error}") from error
        reader = _Reader(data, "recipe")
        written = reader.take("format", str)
        if written != FORMAT:
            raise BadRecipe(f"the recipe is written as {written!r}", hint=f"this version reads {FORMAT!r}")
        recipe = Recipe(
            task=reader.take("task", str),
            prompt=reader.take("prompt", str),
            dropped=reader.take_words("dropped"),
            model=reader.take("model", str),
            digest=reader.take_optional("digest"),
            seed=reader.take("seed", int),
            count=reader.take("count", int),
            size=reader.take("size", int),
            stages=reader.take_stages(),
            prior_candidates=reader.take("prior_candidates", int),
            device=reader.take_optional("device"),
            dtype=reader.take_optional("dtype"),
            versions=reader.take_texts("versions"),
        )
        reader.finish()
        return recipe


class Defaults(Protocol):
    """What `fill` needs to know of a model; a `ModelSpec` of the registry is one.

    `sizes` ascend. The last is what the whole chain paints, and each one before it stops an upsampler earlier.
    """

    @property
    def name(self) -> str: ...
    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def stages(self) -> Mapping[str, StageSettings]: ...
    @property
    def prior_candidates(self) -> int: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...


def random_seed() -> int:
    """A seed for somebody who gave none: below 2^32, short enough to be typed again."""
    return secrets.randbelow(2**32)


def fill(request: Generate, spec: Defaults, dropped: str, seed: int) -> Recipe:
    """Close every dial that the request left open.

    `dropped` is the end of the prompt that the model will not read, or "".

    Raises: TaskNotSupported, BadSize, PromptTooLong (strict requests only).
    """
    if "generate" not in spec.tasks:
        raise TaskNotSupported(f"{spec.name} cannot generate", hint=f"it can {', '.join(spec.tasks)}")
    if request.strict and dropped:
        raise PromptTooLong(
            f"{spec.name} would not read the end of this prompt: {dropped}", hint="shorten it, or leave out --strict"
        )
    size = request.size if request.size is not None else spec.sizes[-1]
    if size not in spec.sizes:
        raise BadSize(f"{spec.name} does not paint {size} pixels", hint=f"it paints {', '.join(map(str, spec.sizes))}")
    unused = len(spec.sizes) - 1 - spec.sizes.index(size)
    names = [name for name in STAGES if name in spec.stages]
    asked = {
        "prior": request.prior,
        "decoder": request.decoder,
        "upsampler": request.upsampler,
        "upsampler_2": request.upsampler,
    }
    candidates = request.prior_candidates
    return Recipe(
        task="generate",
        prompt=request.prompt,
        dropped=tuple(dropped.split()),
        model=spec.name,
        digest=None,
        seed=seed,
        count=request.count,
        size=size,
        stages={name: _settle(asked[name], spec.stages[name]) for name in names[: len(names) - unused]},
        prior_candidates=candidates if candidates is not None else spec.prior_candidates,
        device=request.device,
        dtype=request.dtype,
        versions={"dallecli": __version__},
    )


def _settle(asked: Stage, default: StageSettings) -> StageSettings:
    return StageSettings(
        sampler=asked.sampler if asked.sampler is not None else default.sampler,
        steps=asked.steps if asked.steps is not None else default.steps,
        guidance=asked.guidance if asked.guidance is not None else default.guidance,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key appears twice")
    return dict(pairs)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


T = TypeVar("T")


class _Reader:
    """Takes the known keys out of one JSON object, each of one type, and notices what is left over."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise BadRecipe(f"the {where} is not a JSON object")
        self.data: dict[str, object] = dict(data)
        self.where = where

    def take(self, key: str, kind: type[T]) -> T:
        if key not in self.data:
            raise BadRecipe(f"the {self.where} has no {key!r}")
        value = self.data.pop(key)
        # bool is an int in Python, but `"seed": true` is a mistake.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BadRecipe(f"{key!r} in the {self.where} is {type(value).__name__}, not {kind.__name__}")
        return value

    def take_optional(self, key: str) -> str | None:
        if key in self.data and self.data[key] is None:
            del self.data[key]
            return None
        return self.take(key, str)

    def take_number(self, key: str) -> float:
        return float(self.take(key, int) if isinstance(self.data.get(key), int) else self.take(key, float))

    def take_words(self, key: str) -> tuple[str, ...]:
        words = self.take(key, list)
        if not all(isinstance(word, str) for word in words):
            raise BadRecipe(f"{key!r} in the {self.where} holds something that is not text")
        return tuple(words)

    def take_texts(self, key: str) -> dict[str, str]:
        inner = _Reader(self.take(key, dict), key)
        return {name: inner.take(name, str) for name in list(inner.data)}

    def take_stages(self) -> dict[str, StageSettings]:
        stages = _Reader(self.take("stages", dict), "stages")
        found = {}
        for name in [name for name in STAGES if name in stages.data]:
            stage = _Reader(stages.take(name, dict), f"{name} stage")
            found[name] = StageSettings(
                sampler=stage.take("sampler", str),
                steps=stage.take("steps", int),
                guidance=stage.take_number("guidance"),
            )
            stage.finish()
        stages.finish()
        return found

    def finish(self) -> None:
        if self.data:
            raise BadRecipe(f"the {self.where} holds what no recipe holds: {', '.join(sorted(self.data))}")
