"""`inpaint`: part of a picture repainted, or painted beyond its edges, and the rest kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

from dallecli.errors import BadInput, BadMask, BadRecipe, BadSetting
from dallecli.fields import Fields
from dallecli.source import Source
from dallecli.tasks.mask import MASK_MODES, SIDES, Box, Edges, Mask, MaskMode, read_boxes, read_edges
from dallecli.tasks.task import Habits, Request, Settings, check_prompt, check_range, short_name
from dallecli.tasks.values import Values

RESAMPLE_LIMIT = 100
"""The most times that one step can be taken; each costs as much as the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inpaint(Request):
    """Repaint part of a picture and keep every pixel of the rest; with `expand`, also paint beyond its edges.

    Raises: BadInput, BadMask, BadSetting, PromptError, and as `ModelRequest`.
    """

    task: ClassVar[str] = "inpaint"
    rivals: ClassVar[int] = 4  # the best one has to fit the words and the picture around the hole

    image: Source
    mask: Mask | None
    """What is repainted; None is only what `expand` adds."""
    prompt: str | None = None
    """What to paint there."""
    resample: int | None = None
    """How often each step is taken, with noise added in between, so that the new part fits the old one (RePaint,
    Lugmayr et al. 2022); 1 is off."""
    negative: str | None = None
    """What guidance leads the new part away from; it needs a prompt."""
    expand: Edges = field(default_factory=Edges)
    """The pixels that are added at each edge."""

    def __post_init__(self) -> None:
        Request.__post_init__(self)
        if self.image.kind != "picture":
            raise BadInput("only a picture can be repainted", where=self.image.where)
        if self.mask is None and not self.expand:
            raise BadMask("nothing was marked for repainting", hint="--mask FILE, --mask x,y,w,h or --expand left=64")
        if self.prompt is not None:
            check_prompt(self.prompt, "--prompt")
        if self.negative is not None:
            check_prompt(self.negative, "--negative")
            if self.prompt is None:
                raise BadSetting("a negative prompt does not say what to paint", hint="give a --prompt as well")
        if self.resample is not None:
            check_range("the number of resamplings", self.resample, 1, RESAMPLE_LIMIT)

    @classmethod
    def build(cls, values: Values) -> Self:
        """The request that values by name make. Raises RequestError."""
        expand = values.raw("expand")
        edges = read_edges(str(expand) if expand is not None else None)
        return cls(
            **values.common(),
            image=values.needed_file("image"),
            mask=_build_mask(values, edges),
            prompt=values.text("prompt"),
            resample=values.whole("resample"),
            negative=values.text("negative"),
            expand=edges,
            **values.prior(),
        )

    @property
    def own_values(self) -> dict[str, object]:
        mask = self.mask
        marked = {} if mask is None else {"mask_mode": mask.mode, "invert_mask": mask.invert}
        parts = [] if mask is None else [*(",".join(map(str, box)) for box in mask.boxes), *mask.files]
        expand = ",".join(f"{side}={getattr(self.expand, side)}" for side in SIDES) if self.expand else None
        return {
            "image": self.image,
            "mask": parts if parts else None,
            **marked,
            "prompt": self.prompt,
            "resample": self.resample,
            "negative": self.negative,
            "expand": expand,
        }

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.image, *(self.mask.files if self.mask is not None else ()))

    @property
    def inputs(self) -> tuple[Source, ...]:
        return (self.image,)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for text in (self.prompt, self.negative) if text is not None)

    @property
    def words(self) -> str:
        return self.prompt if self.prompt is not None else ""

    def saying(self, sentences: Sequence[str]) -> Self:
        (sentence,) = sentences
        return replace(self, prompt=sentence)

    @property
    def imagines(self) -> bool:
        return self.prompt is not None

    def settle(self, habits: Habits) -> "Inpainting":
        mask = self.mask
        if mask is not None:
            mask = replace(mask, files=tuple(file.recorded() for file in mask.files))
        resample = self.resample if self.resample is not None else habits.resample
        negative = self.negative if self.negative is not None else ""
        return Inpainting(mask=mask, resample=resample, expand=self.expand, negative=negative)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inpainting(Settings):
    """The settings of `inpaint`: see `Inpaint`. `negative` is "" if there is no negative prompt."""

    mask: Mask | None
    resample: int
    expand: Edges
    negative: str = ""

    @property
    def passes(self) -> int:
        return self.resample

    @property
    def mask_files(self) -> tuple[Source, ...]:
        return self.mask.files if self.mask is not None else ()

    def with_mask_files(self, change: Callable[[Source], Source]) -> Self:
        if self.mask is None:
            return self
        return replace(self, mask=replace(self.mask, files=tuple(change(file) for file in self.mask.files)))

    def title(self, prompt: str, inputs: Sequence[Source]) -> str:
        return f"{short_name(inputs[0])} {prompt if prompt else Inpaint.task}"

    def rows(self) -> list[tuple[str, str]]:
        mask, edges = self.mask, self.expand
        rows = [("away from", self.negative)] if self.negative else []
        if mask is not None:
            parts = [file.described() for file in mask.files] + [f"box {','.join(map(str, box))}" for box in mask.boxes]
            text = " and ".join(parts) if parts else "where it is transparent"
            how = f", by {mask.mode}" if mask.files else ""
            rows.append(("mask", f"{text}{how}{', inverted' if mask.invert else ''}"))
        if edges:
            added = (f"{name} {getattr(edges, name)}" for name in SIDES if getattr(edges, name))
            rows.append(("expanded", ", ".join(added)))
        return [*rows, ("resampled", f"{self.resample} times a step")]

    def to_dict(self) -> dict[str, Any]:
        return {
            "mask": None if self.mask is None else _mask_to_dict(self.mask),
            "resample": self.resample,
            "expand": {name: getattr(self.expand, name) for name in SIDES},
            **({"negative": self.negative} if self.negative else {}),
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        mask = None if fields.null("mask") else _read_mask(fields.table("mask"))
        edges = fields.table("expand")
        expand = Edges(**{name: edges.whole(name) for name in SIDES})
        edges.finish()
        return cls(
            mask=mask,
            resample=fields.whole("resample"),
            expand=expand,
            negative=fields.text("negative") if "negative" in fields else "",
        )

    def request(self, prompt: str, inputs: tuple[Source, ...], dials: Mapping[str, Any]) -> Inpaint:
        return Inpaint(
            image=inputs[0],
            mask=self.mask,
            prompt=prompt if prompt else None,
            resample=self.resample,
            negative=self.negative if self.negative else None,
            expand=self.expand,
            **{name: value for name, value in dials.items() if name != "inverting"},
        )


def _build_mask(values: Values, expand: Edges) -> Mask | None:
    """The mask of `--mask`, `--mask-mode` and `--invert-mask`: boxes and files, else the picture's own transparency.

    None if no mask was given and the picture is only extended.
    """
    parts = values.files("mask")
    mode, invert = cast(MaskMode, values.one_of("mask_mode", MASK_MODES)), values.flag("invert_mask")
    if not parts and expand and mode == "white" and not invert:
        return None
    boxes, files = read_boxes(parts)
    return Mask(files=values.read(files), boxes=boxes, mode=mode, invert=invert)


def _mask_to_dict(mask: Mask) -> dict[str, Any]:
    return {
        "files": [file.to_dict() for file in mask.files],
        "boxes": [list(box) for box in mask.boxes],
        "mode": mask.mode,
        "invert": mask.invert,
    }


def _read_mask(fields: Fields) -> Mask:
    boxes = fields.take("boxes")
    if not isinstance(boxes, list) or not all(_is_box(box) for box in boxes):
        raise BadRecipe("a box in the recipe is not four whole numbers")
    mask = Mask(
        files=tuple(Source.read(entry) for entry in fields.tables("files")),
        boxes=tuple(cast(Box, tuple(box)) for box in boxes),
        mode=cast(MaskMode, fields.choice("mode", MASK_MODES)),
        invert=fields.flag("invert"),
    )
    fields.finish()
    return mask


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(number) is int for number in value)
