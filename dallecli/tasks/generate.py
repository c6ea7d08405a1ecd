"""`generate`: pictures of a prompt; also painted over a picture, or going on from one; also the best of many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

from dallecli.errors import BadInput, BadRecipe, BadSetting
from dallecli.fields import Fields
from dallecli.limits import CODES_SIDE, COUNT_LIMIT
from dallecli.source import Source
from dallecli.tasks.task import INIT, SEED_LIMIT, Habits, Request, Settings, check_prompt, check_range
from dallecli.tasks.values import Values

UNASKED: Final = "picture"
"""The title of a picture of which nothing was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate(Request):
    """Paint pictures of a prompt, or of a class, or of whatever a model paints unasked.

    Raises: BadInput, BadSetting, PromptError, and as `ModelRequest`.
    """

    task: ClassVar[str] = "generate"

    prompt: str | None = None
    class_name: str | None = None
    """The name or the number of a class, for models that paint classes instead of prompts."""
    best_of: int | None = None
    """Paint so many, and keep the `count` that fit the prompt best."""
    judge: str | None = None
    """The model whose CLIP scores them, a name or a folder; None is the model itself."""
    negative: str | None = None
    """What guidance leads the pictures away from."""
    init: Source | None = None
    """A picture that is painted over, instead of noise."""
    strength: float | None = None
    """Above 0 and up to 1: how much of it is painted over (SDEdit, Meng et al. 2022)."""
    continued: Source | None = None
    """A picture whose upper rows of codes are kept, and the others written anew (Ramesh et al. 2021, section 3.3)."""
    rows: int | None = None
    """How many rows of codes are kept."""

    def __post_init__(self) -> None:
        Request.__post_init__(self)
        if self.prompt is not None:
            check_prompt(self.prompt)
        if self.class_name is not None:
            check_prompt(self.class_name, "--class")
            if self.prompt is not None:
                raise BadSetting("a class is painted instead of a prompt", hint="leave out one of them")
        if self.negative is not None:
            check_prompt(self.negative, "--negative")
        self._check_start()
        if self.strength is not None:
            if self.init is None:
                raise BadSetting("a strength is for a picture to start from", hint="name it: --init PICTURE")
            if not 0 < self.strength <= 1:  # NaN is not
                raise BadSetting(f"the strength is {self.strength:g}", hint="it is above 0, and goes up to 1")
        if self.judge is not None and self.best_of is None:
            raise BadSetting("a judge scores the pictures of a best-of", hint="say of how many: --best-of 16")
        if self.best_of is not None:
            check_range("--best-of", self.best_of, self.count, COUNT_LIMIT)
            if self.seed is not None:
                check_range("the seed", self.seed, 0, SEED_LIMIT - self.best_of)

    def _check_start(self) -> None:
        """Refuse what no picture can start from. Raises BadInput, BadSetting."""
        if self.init is not None and self.init.kind != "picture":
            raise BadInput("only a picture can be painted over", where=self.init.where)
        if self.continued is not None:
            if self.continued.kind != "picture":
                raise BadInput("only a picture can be continued", where=self.continued.where)
            if self.init is not None:
                raise BadSetting("a picture is painted over, or continued", hint="leave out --init or --continue")
        if self.rows is not None:
            if self.continued is None:
                raise BadSetting("rows are for a picture to go on from", hint="name it: --continue PICTURE")
            check_range("the number of rows", self.rows, 1, CODES_SIDE)

    @classmethod
    def build(cls, values: Values) -> Self:
        """The request that values by name make. Raises RequestError."""
        return cls(
            **values.common(),
            prompt=values.text("prompt"),
            class_name=_class_name(values),
            best_of=values.whole("best_of"),
            judge=_judge(values),
            negative=values.text("negative"),
            init=values.file("init"),
            strength=values.number("strength"),
            continued=values.file("continue"),
            rows=values.whole("rows"),
            **values.prior(),
        )

    @property
    def own_values(self) -> dict[str, object]:
        return {
            "prompt": self.prompt,
            "class": self.class_name,
            "best_of": self.best_of,
            "judge": self.judge,
            "negative": self.negative,
            "init": self.init,
            "strength": self.strength,
            "continue": self.continued,
            "rows": self.rows,
        }

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source for source in (self.init, self.continued) if source is not None)

    @property
    def way(self) -> str:
        return self.task if self.init is None else INIT

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for text in (self.prompt, self.negative) if text is not None)

    @property
    def words(self) -> str:
        return self.prompt if self.prompt is not None else ""

    @property
    def rewritable(self) -> tuple[str, ...]:
        return tuple(text for text in (self.prompt, self.class_name) if text is not None)

    def saying(self, sentences: Sequence[str]) -> Self:
        (sentence,) = sentences
        return replace(self, prompt=sentence) if self.prompt is not None else replace(self, class_name=sentence)

    @property
    def imagines(self) -> bool:
        return True

    @property
    def looks(self) -> bool:
        return False  # a picture that is painted over or continued is not looked at

    @property
    def judges(self) -> bool:
        return self.best_of is not None and self.judge is None

    def with_judge(self, name: str | None) -> Self:
        return replace(self, judge=name) if self.best_of is not None else self

    def settle(self, habits: Habits) -> "Generating":
        strength = self.strength if self.strength is not None or self.init is None else habits.strength
        negative = self.negative if self.negative is not None else ""
        return Generating(
            best_of=self.best_of,
            judge=self.judge,
            negative=negative,
            strength=strength,
            class_name=self.class_name,
            continued=self.rows,
        )


def _class_name(values: Values) -> str | None:
    """The class that is asked for; a line of JSON may have its number."""
    value = values.raw("class")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else values.text("class")


def _judge(values: Values) -> str | None:
    """The judge that is asked for; one that is only usual counts where there is something to judge."""
    judge = values.text("judge")
    return judge if values.raw("best_of") is not None or values.own.get("judge") is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generating(Settings):
    """The settings of `generate`."""

    best_of: int | None = None
    """How many pictures are painted, if not all are kept."""
    kept: tuple[int, ...] | None = None
    """The seeds of those that are kept, best first, once that is known."""
    judge: str | None = None
    """The name of the model whose CLIP scores them, or scored this one; None is the model itself."""
    judge_digest: str | None = None
    """The sha256 of what is used of that model, in hex, once that is known."""
    negative: str = ""
    """The negative prompt; "" if there is none."""
    strength: float | None = None
    """How much of the one input is painted over; None if none is."""
    class_name: str | None = None
    """The class that is painted, as the model calls it; None if none is."""
    continued: int | None = None
    """How many rows of codes are kept of the one input; None if none is continued."""

    @property
    def alike(self) -> bool:
        return self.best_of is None

    def unranked(self) -> Self:
        return replace(self, best_of=None, kept=None, judge=None, judge_digest=None)

    def keeping(self, seeds: tuple[int, ...]) -> Self:
        return self if self.best_of is None else replace(self, kept=seeds)

    def judged(self, judge: str | None, digest: str | None) -> Self:
        if (self.judge, self.judge_digest) == (judge, digest):
            return self
        return replace(self, judge=judge, judge_digest=digest)

    @property
    def sentences(self) -> tuple[str, ...]:
        return () if self.class_name is None else (self.class_name,)

    def title(self, prompt: str, inputs: Sequence[Source]) -> str:
        named = self.class_name if self.class_name is not None else UNASKED
        return prompt if prompt else named

    def rows(self) -> list[tuple[str, str]]:
        rows = [("away from", self.negative)] if self.negative else []
        rows += [] if self.class_name is None else [("class", self.class_name)]
        rows += [] if self.continued is None else [("goes on", f"after {self.continued} rows")]
        if self.judge is not None:
            digest = "" if self.judge_digest is None else f" (sha256 {self.judge_digest[:12]}…)"
            rows.append(("judged by", f"{self.judge}{digest}"))
        return rows if self.strength is None else [*rows, ("strength", f"{self.strength:g}")]

    def to_dict(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"best_of": self.best_of, "kept": None if self.kept is None else list(self.kept)}
        if self.judge is not None:
            facts |= {"judge": self.judge, "judge_digest": self.judge_digest}
        if self.negative:
            facts["negative"] = self.negative
        if self.class_name is not None:
            facts["class"] = self.class_name
        if self.continued is not None:
            facts["rows"] = self.continued
        return facts if self.strength is None else facts | {"strength": self.strength}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            kept=fields.wholes("kept", optional=True),
            best_of=fields.whole("best_of", optional=True),
            judge=fields.text("judge") if "judge" in fields else None,
            judge_digest=fields.text("judge_digest", optional=True) if "judge_digest" in fields else None,
            negative=fields.text("negative") if "negative" in fields else "",
            strength=fields.number("strength") if "strength" in fields else None,
            class_name=fields.text("class") if "class" in fields else None,
            continued=fields.whole("rows", least=1) if "rows" in fields else None,
        )

    def _check_kept(self, kept: tuple[int, ...], seed: int, count: int) -> None:
        """Refuse seeds that a best-of cannot have kept. Raises BadRecipe, BadSetting."""
        if len(kept) != count:
            raise BadRecipe(f"the recipe has {count} pictures and {len(kept)} seeds")
        best_of = self.best_of if self.best_of is not None else 0
        check_range("--best-of", best_of, count, COUNT_LIMIT)
        painted = range(seed, seed + best_of)
        if len(set(kept)) != count or not all(one in painted for one in kept):
            raise BadRecipe(f"the recipe keeps other seeds than it paints, from {seed} on")

    def request(self, prompt: str, inputs: tuple[Source, ...], dials: Mapping[str, Any]) -> Generate:
        if self.kept is not None:
            self._check_kept(self.kept, dials["seed"], dials["count"])
        starts = (self.strength is not None) + (self.continued is not None)
        if len(inputs) != starts:
            raise BadRecipe(f"the recipe starts from {starts} pictures, and has {len(inputs)}")
        start = inputs[0] if inputs else None
        return Generate(
            prompt=prompt if prompt else None,
            class_name=self.class_name,
            # What was kept is painted again by its seeds, and nobody has to judge it.
            best_of=self.best_of if self.kept is None else None,
            judge=self.judge if self.kept is None and self.best_of is not None else None,
            negative=self.negative if self.negative else None,
            init=start if self.strength is not None else None,
            strength=self.strength,
            continued=start if self.continued is not None else None,
            rows=self.continued,
            **{name: value for name, value in dials.items() if name != "inverting"},
        )
