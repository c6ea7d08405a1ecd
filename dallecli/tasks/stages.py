"""The stages that a model runs one after another, and the dials of each.

A family declares its stages (`Stage`), a request states some dials (`Dials`), and a registry and a recipe hold all of
them (`StageSettings`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any, Final, Literal

from dallecli.fields import Fields
from dallecli.limits import REUSE_LIMIT

Group = Literal["prior", "decoder", "upsampler"]
"""The options that set a stage's dials: `--prior-steps`, `--steps` or `--upsampler-steps`."""

GROUPS: Final[tuple[Group, ...]] = ("prior", "decoder", "upsampler")
PAINTING_GROUPS: Final[tuple[Group, ...]] = ("decoder", "upsampler")
"""Those of stages that make pixels, or what an autoencoder makes pixels of."""

INVERSION: Final = "inversion"
"""The name of the dials with which a picture is inverted to the noise of every painting stage."""


RESPACINGS: Final[Mapping[str, int]] = {
    **{"fast27": 27, "smart27": 27, "smart50": 50, "smart100": 100, "smart185": 185},
    **{"super27": 27, "super40": 40, "super100": 100},
}
"""Published lists of timesteps, which are not evenly spaced, by name, and how many steps each has."""

Steps = int | str
"""The steps of a run: so many, evenly spaced, or the name of one of `RESPACINGS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """The dials of a stage as asked for; None is the model's default."""

    sampler: str | None = None
    """Its name."""
    steps: Steps | None = None
    """How many steps a run has, or which."""
    guidance: float | None = None
    """How closely the stage follows its words; 1.0 is off."""
    guidance_start: float | None = None
    """How much of the noise's timesteps are behind a run when guidance begins: 0 is at once."""
    guidance_stop: float | None = None
    """How much of them are behind it when guidance ends: 1 is never."""
    reuse: int | None = None
    """In one of how many steps all of the network is computed; 1 is in all."""
    temperature: float | None = None
    """How evenly tokens are drawn; 0 always takes the likeliest."""
    top_k: int | None = None
    """Draw only from so many of the likeliest tokens."""
    top_p: float | None = None
    """Draw only from the likeliest tokens that have this share together."""

    @property
    def stated(self) -> dict[str, str | int | float]:
        """The dials that were asked for, by name."""
        return {name: value for name in _DIALS if (value := getattr(self, name)) is not None}


_DIALS: Final = tuple(field.name for field in fields_of(Dials))  # every line of a prompt file asks for them often


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSettings:
    """The dials of a diffusion stage, with nothing left open. Guidance 1.0 is off.

    It is on while the share of the schedule's timesteps that lies behind a run is at least `guidance_start` and below
    `guidance_stop` (Kynkäänniemi et al. 2024, with timesteps for noise levels). Of `reuse` steps one computes the whole
    network, the others its uppermost level.
    """

    sampler: str
    steps: Steps
    guidance: float
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    reuse: int = 1

    @property
    def count(self) -> int:
        """How many steps a run has."""
        return RESPACINGS[self.steps] if isinstance(self.steps, str) else self.steps

    def guides(self, behind: float) -> bool:
        """Whether guidance is on where such a share of the timesteps lies behind a run, if it is on at all."""
        return self.guidance_start <= behind < self.guidance_stop


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """The dials of a stage that draws tokens, with nothing left open: see `Dials`. Guidance 1.0 is off.

    `top_k` 0 and `top_p` 1.0 allow all tokens.
    """

    temperature: float
    top_k: int
    top_p: float
    guidance: float


StageSettings = DiffusionSettings | TokenSettings
"""The dials of a stage in a registry and a recipe."""


SAVING: Final = ("guidance_start", "guidance_stop", "reuse")
"""The dials that leave out work; by default they leave out none. They are for stages that paint."""


def read_saving(fields: Fields) -> dict[str, Any]:
    """The dials that leave out work of a stage's table, which leaves those out itself that leave out none."""
    own: dict[str, Any] = {}
    for name in SAVING:
        if name in fields:
            own[name] = fields.whole(name, least=1, most=REUSE_LIMIT) if name == "reuse" else fields.number(name)
    return own


def written(stage: StageSettings) -> dict[str, Any]:
    """The dials by name as registries and recipes write them: without those that leave out no work."""
    dials = ((name, getattr(stage, name), field.default) for name, field in stage.__dataclass_fields__.items())
    return {name: value for name, value, default in dials if value != default}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as a family declares it."""

    name: str
    """Its key in registries, recipes and progress."""
    group: Group
    """The options that set its dials."""
    settings: type[DiffusionSettings] | type[TokenSettings] = DiffusionSettings
    """Which dials it has."""
    imagines: bool = False
    """Whether it turns words into an image embedding, and so runs only if there are such words; other stages paint."""
    guided: bool = True
    """Whether it reads words; if not, its guidance stays 1."""
    hurried: bool = True
    """Whether `--fast` and `--best` change its steps."""

    @property
    def spoken(self) -> str:
        """Its name in a sentence."""
        return self.name.replace("_", " ") if self.imagines else self.name

    @property
    def dials(self) -> tuple[str, ...]:
        """The names of its dials."""
        names = tuple(field.name for field in fields_of(self.settings))
        return tuple(name for name in names if name not in SAVING or self._saves_by(name))

    def _saves_by(self, name: str) -> bool:
        return not self.imagines and (self.guided or name == "reuse")


PRIOR: Final = Stage(name="prior", group="prior", imagines=True)
AUTOREGRESSIVE_PRIOR: Final = Stage(
    name="autoregressive_prior", group="prior", settings=TokenSettings, imagines=True, hurried=False
)
DECODER: Final = Stage(name="decoder", group="decoder")
# The network of an upsampler's last step was trained for the model's own number of steps.
UPSAMPLERS: Final = tuple(
    Stage(name=name, group="upsampler", guided=False, hurried=False) for name in ("upsampler", "upsampler_2")
)
"""The stages of the unCLIP chain."""
CODES: Final = Stage(name="codes", group="decoder", settings=TokenSettings, hurried=False)
"""Of a model that writes a picture as codes, one after another, which its autoencoder then turns into pixels."""
GUIDED_UPSAMPLER: Final = Stage(name="upsampler", group="upsampler")
"""An upsampler that reads the words again, as DeepFloyd IF's does."""


PRIORS: Final[Mapping[str, Stage]] = {"diffusion": PRIOR, "autoregressive": AUTOREGRESSIVE_PRIOR}
"""The kinds of prior, best first: of a model that has several, the first imagines unless another is asked for."""

NO_PRIOR: Final = "none"
"""Asked for instead of a prior: the text embedding is painted as if it were an image embedding."""

PRIOR_KINDS: Final = (*PRIORS, NO_PRIOR)


def has_option(group: Group, dial: str) -> bool:
    """Whether an option sets a dial: the sampler of a prior is the model's own."""
    return dial != "sampler" or group != "prior"


def option(group: Group, dial: str) -> str:
    """The option of the command line that sets a dial."""
    return f"--{value_name(group, dial).replace('_', '-')}"


def value_name(group: Group, dial: str) -> str:
    """The name of a dial's value in a prompt line."""
    return dial if group == "decoder" else f"{group}_{dial}"
