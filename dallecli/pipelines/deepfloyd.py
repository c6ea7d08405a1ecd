"""DeepFloyd IF: words to 64 pixels and those to 256, told by the states of T5 (the chain of Imagen, in its open form).

Both stages read the same states. In float32 pictures equal those of diffusers' IF pipelines, random draws included:
`IFPipeline` and `IFSuperResolutionPipeline`, and those of both that paint over a picture, or a hole in one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.engine import Progress
from dallecli.errors import BadFile, BadFolder
from dallecli.nets.conditions import Conditions, Context, Place
from dallecli.nets.if_unet import IfUNet, IfUNetConfig
from dallecli.nets.t5 import T5Config
from dallecli.pictures.picture import Picture
from dallecli.pipelines.chunks import chunks_of, one_of_each
from dallecli.pipelines.given import Beginning, Hole
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import Pipeline
from dallecli.pipelines.pixels import to_images, to_pixels
from dallecli.pipelines.settings import StageDials, diffusion_dials
from dallecli.pipelines.sources import middle_of
from dallecli.pipelines.squares import repaint
from dallecli.pipelines.stage import Diffusion, Nets, Run, sample
from dallecli.pipelines.t5_text import T5Text, check_tokens
from dallecli.pipelines.text import rows_of
from dallecli.pipelines.watch import Watch
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.sizing import in_proportion
from dallecli.tasks.generate import Generating
from dallecli.tasks.inpaint import Inpainting
from dallecli.tokens import T5Tokenizer

UNETS: Final = {"decoder": "decoder", "upsampler": "super_res"}
"""The UNet of each stage."""

CHANNELS: Final = {"decoder": 3, "super_res": 6}
"""What each UNet sees: the noised picture, and the smaller one."""

NOISE_LEVEL: Final = 250
"""The timestep up to whose level the smaller picture is noised before it is enlarged, so that what is wrong in it does
not have to be kept (the published default)."""

NOISE_LEVEL_OF_HOLES: Final = 0
"""The same where a hole is painted (the published default)."""

UPSAMPLER_STRENGTH: Final = 0.8
"""The share of its steps that the upsampler takes over a given picture (the published default)."""


def open_deepfloyd(parts: Parts) -> "DeepFloyd":
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    tokenizer = T5Tokenizer.open(parts.folder.path_of("tokenizer"))
    check_tokens(parts, tokenizer)
    for stage, unet in UNETS.items():
        if unet in parts.folder.parts:
            _check(parts, stage)
    return DeepFloyd(parts, T5Text(parts, tokenizer))


def _unet(json: dict[str, Any]) -> IfUNet:
    return IfUNet(IfUNetConfig.from_config(json))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Under:
    """A picture that is painted over, wholly or in a hole."""

    scaled: Callable[[Size], Sequence[Image.Image]]
    """It, or one for each picture that is painted, of a size, scaled as in the published pipelines."""
    strengths: dict[str, float]
    """The share of its steps that each stage takes."""
    hole: Hole | None = None

    def beginning(self, stage: str, size: Size, device: torch.device) -> Beginning:
        """What a stage begins with that paints this size."""
        return Beginning(pixels=to_pixels(self.scaled(size)).to(device), strength=self.strengths[stage])

    def hole_in(self, beginning: Beginning) -> Hole | None:
        """The hole in what a stage begins with, around which nothing is ever noised."""
        if self.hole is None:
            return None
        unknown = self.hole.at(beginning.pixels.shape[-2:], beginning.pixels.device).unknown
        return replace(self.hole, pixels=beginning.pixels, unknown=unknown, clean=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the chain paints: of one prompt for all pictures, or of one for each."""

    states: Tensor
    """[1+p n d], those of T5: of what guidance leads away from, and of p prompts."""
    leads: bool
    """Whether guidance leads anywhere: without a prompt both of its predictions are the same."""
    dials: StageDials
    size: Size
    """Of the pictures."""
    under: _Under | None = None

    @property
    def level(self) -> int:
        """How noisy the upsampler's smaller picture is."""
        return NOISE_LEVEL if self.under is None or self.under.hole is None else NOISE_LEVEL_OF_HOLES


class DeepFloyd(Pipeline):
    """An opened DeepFloyd IF."""

    def __init__(self, parts: Parts, text: T5Text) -> None:
        super().__init__(parts.folder)
        self.parts = parts
        self.text = text

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """Read the prompts of these, too, when T5 is needed next."""
        self.text.expect(text for recipe in recipes for text in (recipe.settings.negative, recipe.prompt))

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Yield the pictures of a recipe as they are done, `batch` at a time."""
        chunks = chunks_of(recipe, progress, batch)
        asked = self._asked([recipe])
        if isinstance(recipe.settings, Inpainting):

            def paint(known: Sequence[Image.Image], hole: Hole, noise: Noise, watch: Watch) -> Tensor:
                return self._paint(replace(asked, under=_around(known, hole)), noise, watch)

            yield from repaint(recipe, recipe.settings, chunks, progress, paint)
            return
        if recipe.inputs:
            asked = replace(asked, under=_beneath(recipe))
        for chunk in chunks:
            yield from chunk.pictures(to_images(self._paint(asked, Noise(chunk.seeds), chunk.watch)))

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> list[Picture]:
        """The one picture of each recipe, all painted at once."""
        chunk = one_of_each(recipes, progress)
        pixels = self._paint(self._asked(recipes), Noise(chunk.seeds), chunk.watch)
        return list(chunk.pictures(to_images(pixels)))

    def _asked(self, recipes: Sequence[Recipe]) -> _Asked:
        """What recipes paint that differ in nothing but their words and seeds. Raises NonFinite."""
        prompts, negative = [recipe.prompt for recipe in recipes], recipes[0].settings.negative
        return _Asked(
            states=self.text.read([negative, *prompts]),
            leads=any(prompt != negative for prompt in prompts),
            dials=diffusion_dials(recipes[0].stages),
            size=recipes[0].size,
        )

    @torch.inference_mode()
    def _paint(self, asked: _Asked, noise: Noise, watch: Watch) -> Tensor:
        """Paint words to pixels [b 3 h w] in [-1, 1], with the stages that have dials."""
        pixels = self._sample(asked, self._stage(asked, "decoder", len(noise)), noise, watch)
        if "upsampler" not in asked.dials:
            return pixels
        shape, device = self._size(asked, "upsampler").shape, self.parts.device
        # The order of the published pipelines: the noise that it starts from, then that of the smaller picture.
        start = noise.draw((3, *shape), device)
        low = F.interpolate(pixels, size=list(shape), mode="bilinear", align_corners=True)
        alpha_bar = self.parts.schedule("image_noising_scheduler").alpha_bars[asked.level]
        low = alpha_bar.sqrt().item() * low + (1 - alpha_bar).sqrt().item() * noise.draw((3, *shape), device)
        return self._sample(asked, self._stage(asked, "upsampler", len(noise), low), noise, watch, start)

    def _sample(
        self, asked: _Asked, stage: Diffusion, noise: Noise, watch: Watch, start: Tensor | None = None
    ) -> Tensor:
        """Run a stage from noise, or over a picture."""
        beginning, hole = None, None
        if asked.under is not None:
            beginning = asked.under.beginning(stage.stage, self._size(asked, stage.stage), self.parts.device)
            hole = asked.under.hole_in(beginning)
        dials = asked.dials[stage.stage]
        return sample(self.parts, stage, dials, noise, watch, start, hole=hole, beginning=beginning)

    def _size(self, asked: _Asked, name: str) -> Size:
        """The size of the picture after a stage."""
        sides = {stage: self.parts.config(UNETS[stage], IfUNetConfig.from_config).side for stage in asked.dials}
        return in_proportion(sides, asked.size)[name]

    def _stage(self, asked: _Asked, name: str, count: int, low: Tensor | None = None) -> Diffusion:
        """The painter of words, or of the details of a smaller picture that was enlarged, for `count` pictures."""
        unet = UNETS[name]

        def nets(run: Run) -> Nets:
            dtype = run.dtype
            net = self.parts.net(unet, _unet, dtype)
            rows = rows_of(len(asked.states) - 1, count, run.paired, self.parts.device)
            read = net.condition(asked.states.to(dtype), None if low is None else asked.level)
            told = Conditions(net.times(run.ts, read.time[rows]), Context(read.context[rows]))
            seen = [] if low is None else [low.repeat(len(rows) // count, 1, 1, 1).to(dtype)]

            def predict(x: Tensor, place: Place) -> Tensor:
                whole = torch.cat([x.to(dtype), *(part[-len(x) :] for part in seen)], dim=1)
                return net.denoise(whole, *told.at(place, len(x)), run.deep)

            return predict, None

        return Diffusion(
            stage=name,
            shape=(3, *self._size(asked, name).shape),
            schedule=self.parts.schedule(f"{unet}_scheduler"),
            guided=asked.leads,
            nets=nets,
            show=to_images,
        )


def _around(known: Sequence[Image.Image], hole: Hole) -> _Under:
    """What a hole is painted in."""

    def scaled(size: Size) -> list[Image.Image]:
        return [image.resize((size.width, size.height), Image.Resampling.BICUBIC) for image in known]

    return _Under(scaled=scaled, strengths={"decoder": 1.0, "upsampler": UPSAMPLER_STRENGTH}, hole=hole)


def _beneath(recipe: Recipe) -> _Under:
    """The picture that a recipe paints over. Raises TypeError for a recipe of another task."""
    settings, source = recipe.settings, recipe.inputs[0]
    if not isinstance(settings, Generating) or settings.strength is None:
        raise TypeError(f"{recipe.model} cannot {recipe.task}")

    def scaled(size: Size) -> list[Image.Image]:
        return [middle_of(source, size, Image.Resampling.BICUBIC)]

    return _Under(scaled=scaled, strengths={"decoder": settings.strength, "upsampler": UPSAMPLER_STRENGTH})


def _check(parts: Parts, stage: str) -> None:
    """Refuse a UNet that does not fit the text tower, its schedule, or its place, before any of them is loaded."""
    unet = UNETS[stage]
    config, schedule = parts.config(unet, IfUNetConfig.from_config), parts.schedule(f"{unet}_scheduler")
    text = parts.config("text_encoder", T5Config.from_config)
    parts.check_same("width of text states", "text_encoder", text.d_model, unet, config.text_dim)
    outputs = (6,) if schedule.variance_type == "learned_range" else (3, 6)
    if config.in_channels != CHANNELS[unet] or config.out_channels not in outputs:
        what = f"the {unet} has {config.in_channels} channels in and {config.out_channels} out"
        raise BadFolder(f"{what}, which don't fit what it sees and its schedule", str(parts.folder.path))
    if config.enlarges != (stage == "upsampler"):
        told = "is" if config.enlarges else "is not"
        what = f"the {unet} {told} told how noisy a smaller picture is, and so is no {stage}"
        raise BadFolder(what, str(parts.folder.path), "these parts are of different models")
    if config.enlarges and parts.schedule("image_noising_scheduler").num_train_timesteps <= NOISE_LEVEL:
        what = f"this schedule can't be run: it has no timestep {NOISE_LEVEL}, to which smaller pictures are noised"
        raise BadFile(what, str(parts.folder.path_of("image_noising_scheduler")))
