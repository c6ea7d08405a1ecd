"""guided-diffusion ("ADM"): a class of pictures painted in pixels, led by a classifier, and enlarged.

The chain is that of Dhariwal & Nichol 2021 (https://arxiv.org/abs/2105.05233) as OpenAI publishes it. In float32
pictures equal those of the published scripts, random draws included.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.classes import Classes
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import idle_draws
from dallecli.engine import Progress
from dallecli.errors import BadFolder
from dallecli.nets.conditions import Place, Time
from dallecli.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from dallecli.nets.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from dallecli.pictures.picture import Picture
from dallecli.pipelines.adm_description import CLASSIFIER, OFF
from dallecli.pipelines.chunks import chunks_of, one_of_each
from dallecli.pipelines.given import Beginning
from dallecli.pipelines.graphs import Net
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import Pipeline
from dallecli.pipelines.pixels import to_images, to_pixels
from dallecli.pipelines.settings import StageDials, diffusion_dials
from dallecli.pipelines.sources import middle_of
from dallecli.pipelines.stage import Diffusion, Nets, Run, sample
from dallecli.pipelines.watch import Watch
from dallecli.recipe import Recipe
from dallecli.tasks.generate import Generating
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

UNETS: Final = {"decoder": "decoder", "upsampler": "super_res"}
"""The UNet of each stage."""

CHANNELS: Final = {"decoder": 3, "super_res": 6}
"""What each UNet sees: the noised picture; the smaller picture."""


def open_adm(parts: Parts, classes: Classes | None) -> "Adm":
    """The model in a folder, opened, whose classes have these names. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    for unet in [unet for unet in CHANNELS if unet in parts.folder.parts]:
        _check_unet(parts, unet)
    _check_classes(parts, classes)
    return Adm(parts, classes)


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_adm(Parts(folder, torch.device("cpu"), torch.float32), None)
    for part in folder.networks:
        build = _classifier if part == CLASSIFIER else _unet
        check_net(partial(build, folder.config(part)), folder.weights_file(part))


def _unet(json: dict[str, Any]) -> GuidedUNet:
    return GuidedUNet(GuidedUNetConfig.from_config(json))


def _classifier(json: dict[str, Any]) -> NoisedClassifier:
    return NoisedClassifier(NoisedClassifierConfig.from_config(json))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the chain paints. `number` is that of the class; None if whatever comes is painted."""

    number: int | None
    dials: StageDials
    beginning: Beginning | None = None


class Adm(Pipeline):
    """An opened guided-diffusion model."""

    def __init__(self, parts: Parts, classes: Classes | None) -> None:
        super().__init__(parts.folder)
        self.parts = parts
        self.classes = classes

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Yield the pictures of a recipe as they are done, `batch` at a time."""
        chunks, asked = chunks_of(recipe, progress, batch), self._asked(recipe)
        for chunk in chunks:
            yield from chunk.pictures(to_images(self._paint(asked, Noise(chunk.seeds), chunk.watch)))

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> list[Picture]:
        """The one picture of each recipe, all painted at once; they have the same class."""
        chunk = one_of_each(recipes, progress)
        pixels = self._paint(self._asked(recipes[0]), Noise(chunk.seeds), chunk.watch)
        return list(chunk.pictures(to_images(pixels)))

    def _asked(self, recipe: Recipe) -> _Asked:
        """What a recipe asks for. Raises TypeError for a recipe of another task."""
        settings = recipe.settings
        if not isinstance(settings, Generating):
            raise TypeError(f"{recipe.model} cannot {recipe.task}")
        number = None
        if self.classes is not None and settings.class_name is not None:
            number = self.classes.number(settings.class_name)
        asked = _Asked(number=number, dials=diffusion_dials(recipe.stages))
        if settings.strength is None:
            return asked
        pixels = to_pixels([middle_of(recipe.inputs[0], recipe.size)])
        return replace(asked, beginning=Beginning(pixels=pixels, strength=settings.strength))

    @torch.no_grad()  # and not inference mode, in which no gradient could be asked for
    def _paint(self, asked: _Asked, noise: Noise, watch: Watch) -> Tensor:
        """Paint to pixels [b 3 s s] of 256 levels in [-1, 1], with the stages that have dials."""
        dials, decoder = asked.dials["decoder"], self._stage(asked, "decoder")
        beginning = asked.beginning.at(decoder.shape[-2:], self.parts.device) if asked.beginning is not None else None
        pixels = _levels(sample(self.parts, decoder, dials, noise, watch, beginning=beginning))
        if "upsampler" not in asked.dials:
            return pixels
        for _ in range(idle_draws(dials.sampler, dials.count)):
            noise.draw(decoder.shape)
        return _levels(
            sample(self.parts, self._stage(asked, "upsampler", pixels), asked.dials["upsampler"], noise, watch)
        )

    def _stage(self, asked: _Asked, name: str, low: Tensor | None = None) -> Diffusion:
        """The painter of small pictures, or the one of the details of larger ones."""
        unet = UNETS[name]
        config = self.parts.config(unet, GuidedUNetConfig.from_config)
        number = self._number(asked) if config.num_class_embeds is not None else None
        beside = None if low is None else F.interpolate(low, size=[config.sample_size] * 2, mode="bilinear")

        def nets(run: Run) -> Nets:
            dtype = run.dtype
            net = self.parts.net(unet, _unet, dtype)
            times, seen = net.times(run.ts, number), None if beside is None else beside.to(dtype)

            def predict(x: Tensor, place: Place) -> Tensor:
                x = x.to(dtype) if seen is None else torch.cat([x.to(dtype), seen], dim=1)
                return net.denoise(x, Time(times, place), run.deep)

            return predict, None

        leads = low is None and asked.number is not None and asked.dials[name].guidance != OFF
        return Diffusion(
            stage=name,
            shape=(3, config.sample_size, config.sample_size),
            schedule=self.parts.schedule(f"{unet}_scheduler"),
            guided=False,
            nets=nets,
            show=to_images,
            lead=partial(self._lead, asked) if leads else None,
        )

    def _lead(self, asked: _Asked, run: Run) -> Net:
        """The gradient of the classifier for the class that is asked for, times the guidance."""
        dtype = run.dtype
        net = self.parts.net(CLASSIFIER, _classifier, dtype, gradients=True)
        times, number, scale = net.times(run.ts), self._number(asked), asked.dials["decoder"].guidance

        def towards(x: Tensor, place: Place) -> Tensor:
            return scale * net.gradient(x.to(dtype), Time(times, place), number).to(x.dtype)

        return towards

    def _number(self, asked: _Asked) -> Tensor:
        """The class of all pictures, [1]. Raises TypeError if there is none."""
        if asked.number is None:
            raise TypeError("no class is named")
        return torch.tensor([asked.number], device=self.parts.device)


def _levels(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1] as the published scripts write them: of 256 levels, not rounded but cut off."""
    return ((pixels + 1) * 127.5).clamp(0, 255).floor() / 127.5 - 1


def _check_unet(parts: Parts, unet: str) -> None:
    """Refuse a UNet that does not fit its place, or its schedule."""
    config = parts.config(unet, GuidedUNetConfig.from_config)
    schedule = parts.schedule(f"{unet}_scheduler")
    outputs = (6,) if schedule.variance_type == "learned_range" else (3, 6)
    if config.in_channels != CHANNELS[unet] or config.out_channels not in outputs:
        what = f"the {unet} has {config.in_channels} channels in and {config.out_channels} out"
        raise BadFolder(f"{what}, which don't fit what it sees and its schedule", str(parts.folder.path))


def _check_classes(parts: Parts, classes: Classes | None) -> None:
    """Refuse networks that know other classes than the others, or than there are names for."""
    there = parts.folder.parts
    decoder = parts.config("decoder", GuidedUNetConfig.from_config)
    counts = {"decoder": decoder.num_class_embeds}
    if "super_res" in there:
        counts["super_res"] = parts.config("super_res", GuidedUNetConfig.from_config).num_class_embeds
        parts.check_same("number of classes", "super_res", counts["super_res"] or 0, "decoder", counts["decoder"] or 0)
    if CLASSIFIER in there:
        classifier = parts.config(CLASSIFIER, NoisedClassifierConfig.from_config)
        parts.check_same("side", CLASSIFIER, classifier.sample_size, "decoder", decoder.sample_size)
        counts[CLASSIFIER] = classifier.num_classes
    for part, count in counts.items():
        if classes is not None and count is not None:
            parts.check_same("number of classes", part, count, "list of their names", len(classes))
