"""The stages that a model runs one after another, and the dials that each of them has.

A family declares its stages (`Stage`), a request asks for dials by the options that set them (`Dials`), a registry and
a recipe hold them with nothing left open (`StageSettings`).
"""

from dataclasses import dataclass, fields
from typing import Final, Literal

Group = Literal["prior", "decoder", "upsampler"]
"""The options that set a stage's dials: `--prior-steps`, `--steps` or `--upsampler-steps`."""

GROUPS: Final[tuple[Group, ...]] = ("prior", "decoder", "upsampler")

INVERSION: Final = "inversion"
"""The name of the dials with which a given picture is taken back to the noise of every stage that paints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """The dials of a stage as asked for; None is the model's default.

    sampler: its name. steps: how often the network is asked. guidance: how hard the words pull; 1.0 is off.
    temperature: how evenly tokens are drawn; 0 always takes the likeliest. top_k: only so many of the likeliest tokens
    are drawn from. top_p: only the likeliest that have this share together.
    """

    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    @property
    def stated(self) -> dict[str, str | int | float]:
        """The dials that were asked for, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSettings:
    """The dials of a stage that takes noise away, with nothing left open. Guidance 1.0 is off."""

    sampler: str
    steps: int
    guidance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """The dials of a stage that writes tokens, with nothing left open: see `Dials`. Guidance 1.0 is off.

    `top_k` 0 and `top_p` 1.0 leave all tokens in.
    """

    temperature: float
    top_k: int
    top_p: float
    guidance: float


StageSettings = DiffusionSettings | TokenSettings
"""What a registry and a recipe hold of a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as a family declares it.

    name: its key in registries, recipes and progress. group: the options that set its dials. settings: which dials it
    has. imagines: whether it turns words into an image embedding, and so runs only where words have to become one; the
    other stages paint. guided: whether words reach it; if not, its guidance stays 1. hurried: whether `--fast` and
    `--best` change its steps.
    """

    name: str
    group: Group
    settings: type[DiffusionSettings] | type[TokenSettings] = DiffusionSettings
    imagines: bool = False
    guided: bool = True
    hurried: bool = True

    @property
    def dials(self) -> tuple[str, ...]:
        """The names of its dials."""
        return tuple(field.name for field in fields(self.settings))


PRIOR: Final = Stage(name="prior", group="prior", imagines=True)
DECODER: Final = Stage(name="decoder", group="decoder")
# The network of an upsampler's last step was trained for the model's own number of steps.
UPSAMPLERS: Final = tuple(
    Stage(name=name, group="upsampler", guided=False, hurried=False) for name in ("upsampler", "upsampler_2")
)
"""The stages of the unCLIP chain."""


def option(group: Group, dial: str) -> str:
    """The option of the command line that sets a dial."""
    prefix = "" if group == "decoder" else f"{group}-"
    return f"--{prefix}{dial.replace('_', '-')}"
