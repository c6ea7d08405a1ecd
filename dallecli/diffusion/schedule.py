"""How much noise a sample has at each timestep, and which timesteps a run visits.

Legend, as in Ho et al. 2020 and Nichol & Dhariwal 2021: `t` is a trained timestep, 0 (almost clean) to T-1 (noise);
`beta` is the share of noise that one step adds; `alpha_bar` is the share of the clean sample's variance that is left,
so that `x_t = signal x_0 + sigma eps` with `signal = sqrt(alpha_bar)` and `sigma = sqrt(1 - alpha_bar)`. Numbers are
those of diffusers' UnCLIPScheduler (Karlo, and Kandinsky's prior), DDPMScheduler (Kandinsky's decoders, IF), and
DDIMScheduler or PNDMScheduler (Stable unCLIP); or of OpenAI's GaussianDiffusion (GLIDE).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dallecli.diffusion.respacing import respaced, strided

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
VARIANCE_TYPES = ("fixed_small_log", "fixed_small", "learned_range")
"""How the noise of a step is found. The first two are the posterior's own: the logarithm only keeps it above 0."""
SPACINGS = ("ends", "leading", "sections")
"""How the visited timesteps are spaced: from the last trained one to 0, in whole strides up from 0, or as
respacing.py says."""
LARGEST = 100_000
"""No number of a schedule is larger; a larger one is a mistake, and a table of that length would fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a run."""

    index: int
    """From 0."""
    t: int
    """The timestep at which it begins."""
    t_prev: int
    """The timestep at which it ends; -1 where the result is the clean sample."""
    alpha_bar: float
    """At `t`."""
    alpha_bar_prev: float
    """At `t_prev`; for -1 the schedule's last."""
    signal: float
    """At `t`."""
    sigma: float
    """At `t`."""
    beta: float
    """The noise of the whole jump, `1 - alpha_bar / alpha_bar_prev`."""
    dtype: torch.dtype = torch.float32
    """The type in which its numbers are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3): each picture is scaled by its own largest numbers."""

    share: float
    """Above 0 and up to 1: the share of a picture's numbers that is not to be cut off."""
    most: float
    """No picture is divided by more than this, and none by less than 1."""

    def __call__(self, x0: Tensor) -> Tensor:
        """Clean samples [b ...] within [-1, 1]: each one cut off where its `share` says, and divided by that."""
        flat = x0.flatten(1)
        # One picture after the other: torch refuses the quantiles of more than 16 million numbers at once.
        found = torch.stack([row.abs().quantile(self.share) for row in flat])
        s = found.clamp(1, self.most)[:, None]
        return (flat.clamp(-s, s) / s).view_as(x0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The noise levels with which a network was trained, and the meaning of its output."""

    betas: Tensor
    """Of every trained timestep, float32, or float64 where the published code computes in it."""
    alpha_bars: Tensor
    """The same."""
    prediction_type: str
    """One of `PREDICTION_TYPES`."""
    variance_type: str
    """One of `VARIANCE_TYPES`."""
    clip_range: float | None
    """The clean sample is clipped to this, up and down; None does not clip."""
    threshold: "Threshold | None" = None
    """How far clean samples are pulled in instead of clipped; None clips."""
    spacing: str = "ends"
    """One of `SPACINGS`."""
    offset: int = 0
    """Added to every timestep."""
    last_alpha_bar: float = 1.0
    """The alpha_bar with which a run ends: 1, or that of timestep 0."""
    respacings: Mapping[int, str] = field(default_factory=dict)
    """With the spacing "sections", the names of published respacings, by their number of steps; see respacing.py."""
    strides: bool = False
    """With that spacing, whether runs of `ddim` go in whole strides up from 0 where so many steps make any, as in the
    respacings "ddimN"."""
    keeps_noise: bool = False
    """Whether `ddim` goes on with the noise as the network predicted it where the clean sample was clipped. Otherwise
    with the noise that is left beside the clipped sample."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """Read a `scheduler_config.json`; missing fields take the defaults of its class.

        The class is UnCLIPScheduler where the file names none. Raises ValueError for a class that is not in `_KINDS`,
        for numbers out of range, and for a field that would change the picture and is not known here.
        """
        name = _one_of(tuple(_KINDS), config, "_class_name", "UnCLIPScheduler")
        kind = _KINDS[name]
        _refuse_unknown_ways(name, config)
        betas = _betas(config, kind)
        alpha_bars = torch.cumprod(1.0 - betas, dim=0)
        threshold = _threshold(config)
        clips = _flag(config, "clip_sample", kind.clips) and threshold is None
        whole = kind.ends_at_one
        if whole is None:
            whole = _flag(config, "set_alpha_to_one", name == "DDIMScheduler")
        return cls(
            betas=betas,
            alpha_bars=alpha_bars,
            prediction_type=_one_of(kind.predictions, config, "prediction_type", "epsilon"),
            variance_type=_one_of(VARIANCE_TYPES, config, "variance_type", kind.variance_type),
            clip_range=_positive(config, "clip_sample_range", 1.0) if clips else None,
            threshold=threshold,
            spacing=_one_of((kind.spacing,), config, "timestep_spacing", kind.spacing),
            offset=_offset(config) if kind.spacing == "leading" else 0,
            last_alpha_bar=1.0 if whole else alpha_bars[0].item(),
            respacings=_respacings(config, len(betas)) if kind.spacing == "sections" else {},
            strides=kind.spacing == "sections" and _flag(config, "ddim_strides", False),
            keeps_noise=name == "DDIMScheduler",
        )

    @property
    def num_train_timesteps(self) -> int:
        return len(self.betas)

    def behind(self, step: Step) -> float:
        """The share of the trained timesteps, from 0 to below 1, that lies behind a run when it takes a step."""
        return 1 - (step.t + 1) / self.num_train_timesteps

    def steps(self, asked: int | str, sampler: str = "") -> list[Step]:
        """The steps of a run by a sampler: so many, evenly spaced over the trained timesteps, or those of a respacing.

        With the spacing "ends" they go from the last timestep down to 0, rounded half to even, as in UnCLIPScheduler;
        with "leading", in whole strides down to `offset`, as in DDPMScheduler; with "sections", as in the published
        respacing of so many steps, else in one section, or in `strides`.

        Raises ValueError for a respacing that there is not, or that does not fit, and unless 2 <= `asked` <= the
        trained timesteps less the offset: one step cannot be at both ends.
        """
        most = self.num_train_timesteps - self.offset
        if isinstance(asked, int) and not 2 <= asked <= most:
            raise ValueError(f"{asked} steps asked for, between 2 and {most} are possible")
        visits = self._respaced(asked) if isinstance(asked, str) else self._visits(asked, sampler)
        visited = [*reversed(visits), -1]
        return [self._step(index, t, t_prev) for index, (t, t_prev) in enumerate(pairwise(visited))]

    def _visits(self, count: int, sampler: str) -> list[int]:
        """The timesteps of a run, ascending."""
        if self.strides and sampler == "ddim" and strided(count, self.num_train_timesteps) is not None:
            return respaced(f"ddim{count}", self.num_train_timesteps)
        if self.spacing == "sections":
            return self._respaced(self.respacings.get(count, str(count)))
        if self.spacing == "leading":
            stride: float = self.num_train_timesteps // count
        else:
            stride = (self.num_train_timesteps - 1) / (count - 1)
        return [round(k * stride) + self.offset for k in range(count)]

    def _respaced(self, name: str) -> list[int]:
        return respaced(name, self.num_train_timesteps, of_glide=self.spacing == "sections")

    def _step(self, index: int, t: int, t_prev: int) -> Step:
        # In float32 like diffusers: the differences from 1 lose digits, and must lose the same ones. At t = 999 a
        # prediction of noise is divided by a signal of 5e-5, so the eighth digit of sigma becomes the fourth of x_0.
        alpha_bar = self.alpha_bars[t]
        dtype = self.alpha_bars.dtype
        alpha_bar_prev = self.alpha_bars[t_prev] if t_prev >= 0 else torch.tensor(self.last_alpha_bar, dtype=dtype)
        single = t_prev == t - 1 and self.spacing == "ends"  # DDPMScheduler also takes single strides for jumps
        beta = self.betas[t] if single else 1 - alpha_bar / alpha_bar_prev
        return Step(
            index=index,
            t=t,
            t_prev=t_prev,
            alpha_bar=alpha_bar.item(),
            alpha_bar_prev=alpha_bar_prev.item(),
            signal=alpha_bar.sqrt().item(),
            sigma=(1 - alpha_bar).sqrt().item(),
            beta=beta.item(),
            dtype=dtype,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What a published class knows, and takes where the file says nothing."""

    beta_schedules: tuple[str, ...]
    """The default first."""
    predictions: tuple[str, ...] = PREDICTION_TYPES
    variance_type: str = "fixed_small"
    spacing: str = "leading"
    clips: bool = True
    ends_at_one: bool | None = None
    """Whether a run ends with an alpha_bar of 1; None where the file says so."""
    trained_betas: bool = True
    """Whether the file may list the betas themselves."""
    thresholds: bool = False
    """Whether it can be told to pull clean samples in by their own largest numbers."""
    dtype: torch.dtype = torch.float32
    """The type in which the numbers of a schedule are computed."""


_THREE = ("linear", "scaled_linear", "squaredcos_cap_v2")
_KINDS: dict[str, _Kind] = {
    "UnCLIPScheduler": _Kind(
        beta_schedules=("squaredcos_cap_v2",),
        variance_type="fixed_small_log",
        spacing="ends",
        ends_at_one=True,
        trained_betas=False,
    ),
    "DDPMScheduler": _Kind(beta_schedules=_THREE, ends_at_one=True, thresholds=True),
    "DDIMScheduler": _Kind(beta_schedules=_THREE),
    "PNDMScheduler": _Kind(beta_schedules=_THREE, clips=False, predictions=("epsilon", "v_prediction")),
    "GaussianDiffusion": _Kind(
        beta_schedules=("linear", "squaredcos_cap_v2"),
        variance_type="learned_range",
        spacing="sections",
        ends_at_one=True,
        trained_betas=False,
        dtype=torch.float64,
    ),
}
"""The published classes that are known: those of diffusers, and the one of OpenAI's guided-diffusion and GLIDE."""


def _refuse_unknown_ways(name: str, config: Mapping[str, Any]) -> None:
    """Raise ValueError for a field that asks for another way of sampling."""
    for way in ("thresholding", "rescale_betas_zero_snr"):
        if _flag(config, way, False) and not (way == "thresholding" and _KINDS[name].thresholds):
            raise ValueError(f"{way} is not known here")
    if name == "PNDMScheduler" and not _flag(config, "skip_prk_steps", False):
        raise ValueError("skip_prk_steps is false, and Runge-Kutta steps are not known here")


def _threshold(config: Mapping[str, Any]) -> Threshold | None:
    """How clean samples are pulled in, if a file says that they are."""
    if not _flag(config, "thresholding", False):
        return None
    share, most = _positive(config, "dynamic_thresholding_ratio", 0.995), _positive(config, "sample_max_value", 1.0)
    if share > 1 or most < 1:
        raise ValueError(
            f"dynamic_thresholding_ratio is {share} and sample_max_value {most}, expected up to 1 and from 1"
        )
    return Threshold(share=share, most=most)


def _betas(config: Mapping[str, Any], kind: _Kind) -> Tensor:
    count = _positive(config, "num_train_timesteps", 1000)
    if count != int(count):
        raise ValueError(f"num_train_timesteps is {count!r}, expected a whole number")
    count = int(count)
    trained = config.get("trained_betas")
    if trained is not None:
        if not kind.trained_betas:
            raise ValueError("trained_betas are not known in a schedule of this class")
        return _trained_betas(trained, count)
    schedule = _one_of(kind.beta_schedules, config, "beta_schedule", kind.beta_schedules[0])
    if schedule == "squaredcos_cap_v2":
        return _cosine_betas(count, dtype=kind.dtype)
    first, last = _positive(config, "beta_start", 1e-4), _positive(config, "beta_end", 0.02)
    if not first <= last < 1:
        raise ValueError(f"beta_start is {first} and beta_end {last}, expected ascending numbers below 1")
    if schedule == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, count, dtype=torch.float32) ** 2
    return torch.linspace(first, last, count, dtype=kind.dtype)


def _trained_betas(trained: object, count: int) -> Tensor:
    """The betas that a file lists; they come before its `beta_schedule`."""
    if not isinstance(trained, list) or len(trained) != count:
        raise ValueError(f"trained_betas are not a list of {count} numbers, one for each of num_train_timesteps")
    if not all(isinstance(beta, int | float) and not isinstance(beta, bool) and 0 < beta < 1 for beta in trained):
        raise ValueError("trained_betas are not all numbers between 0 and 1")
    return torch.tensor(trained, dtype=torch.float32)


def _cosine_betas(count: int, largest: float = 0.999, dtype: torch.dtype = torch.float32) -> Tensor:
    """The squared-cosine betas of Nichol & Dhariwal 2021, eq. 17."""

    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return torch.tensor(
        [min(1 - alpha_bar((i + 1) / count) / alpha_bar(i / count), largest) for i in range(count)], dtype=dtype
    )


def _respacings(config: Mapping[str, Any], count: int) -> dict[int, str]:
    """The published respacings that a file names, by their number of steps."""
    names = config.get("respacings", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"respacings is {names!r}, expected a list of names")
    return {len(respaced(name, count)): name for name in names}


def _flag(config: Mapping[str, Any], field: str, default: bool) -> bool:
    value = config.get(field, default)
    if not isinstance(value, bool):
        raise ValueError(f"{field} is {value!r}, expected true or false")
    return value


def _offset(config: Mapping[str, Any]) -> int:
    value = config.get("steps_offset", 0)
    if type(value) is not int or value not in (0, 1):
        raise ValueError(f"steps_offset is {value!r}, expected 0 or 1")
    return value


def _positive(config: Mapping[str, Any], field: str, default: float) -> float:
    value = config.get(field, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LARGEST:
        raise ValueError(f"{field} is {value!r}, expected a number above 0")
    return value


def _one_of(known: tuple[str, ...], config: Mapping[str, Any], field: str, default: str) -> str:
    value = config.get(field, default)
    if value not in known:
        raise ValueError(f"{field} is {value!r}, known are {', '.join(known)}")
    return str(value)
