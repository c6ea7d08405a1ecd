"""A family without an embedding: words straight to pixels, and those to larger ones. Random and tiny.

It is what GLIDE or DeepFloyd IF would be: this file, and one entry of `LAYOUTS`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dallecli.engine import Progress
from dallecli.pictures.picture import Picture
from dallecli.pipelines.description import Description
from dallecli.pipelines.pipeline import Pipeline
from dallecli.recipe import Recipe
from dallecli.sizing import in_proportion
from dallecli.tasks.stages import DECODER, UPSAMPLERS, DiffusionSettings
from dallecli.weights.layouts import Layout, StageParts

LAYOUT = Layout(
    pipeline="ToyCascadePipeline",
    networks=("base", "enlarger"),
    others=(),
    stages=(
        StageParts(stage=DECODER, network="base", schedule="base_scheduler", sized="base"),
        StageParts(stage=UPSAMPLERS[0], network="enlarger", schedule="enlarger_scheduler", sized="enlarger"),
    ),
    tasks={"generate": "base"},
    oblong=True,
    dials={
        "decoder": DiffusionSettings(sampler="ancestral", steps=4, guidance=3.0),
        "upsampler": DiffusionSettings(sampler="ddim", steps=3, guidance=1.0),
    },
    description=f"{__name__}:CascadeDescription",
    opener=f"{__name__}:Cascade",
)
SIDES = {"base": 8, "enlarger": 16}
WORDS = 5


class CascadeDescription(Description):
    """It reads five words of a prompt."""

    def dropped(self, text: str) -> str:
        return " ".join(text.split()[WORDS:])


class Cascade(Pipeline):
    """Each network is a convolution of the sample, and of the smaller picture beside it, in the colour of the words."""

    def __init__(self, parts: Any) -> None:
        super().__init__(parts.folder)
        self.parts = parts

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        import torch

        from dallecli.diffusion.noise import Noise
        from dallecli.pipelines.chunks import chunks_of
        from dallecli.pipelines.pixels import to_images
        from dallecli.pipelines.settings import diffusion_dials
        from dallecli.pipelines.stage import sample

        for chunk in chunks_of(recipe, progress, batch):
            with torch.inference_mode():
                noise, pixels = Noise(chunk.seeds), None
                for stage, dials in diffusion_dials(recipe.stages).items():
                    painter = self._stage(stage, recipe, len(noise), pixels)
                    pixels = sample(self.parts, painter, dials, noise, chunk.watch).clamp(-1, 1)
            yield from chunk.pictures(to_images(pixels))

    def _stage(self, stage: str, recipe: Recipe, count: int, low: Any) -> Any:
        import torch
        import torch.nn.functional as F

        from dallecli.diffusion.guidance import pair
        from dallecli.pipelines.stage import Diffusion

        part = "base" if low is None else "enlarger"
        sides = {name: SIDES["base" if name == "decoder" else "enlarger"] for name in recipe.stages}
        shape = in_proportion(sides, recipe.size)[stage].shape
        words, nothing = colour(recipe.prompt), colour(recipe.settings.negative)

        def nets(run: Any) -> Any:
            colours = torch.tensor([nothing, words] if run.paired else [words], dtype=run.dtype)
            told = colours.repeat_interleave(count, dim=0)[..., None, None]
            beside = [] if low is None else [F.interpolate(low, size=list(shape)).to(run.dtype)]
            beside = [pair(low, low) for low in beside] if run.paired else beside

            def predict(x: torch.Tensor, place: Any) -> torch.Tensor:
                seen = torch.cat([x.to(run.dtype), *(low[-len(x) :] for low in beside)], dim=1)
                return self._net(part, run.dtype)(seen) + told[-len(x) :]

            return predict, None

        schedule = self.parts.schedule(f"{part}_scheduler")
        return Diffusion(stage=stage, shape=(3, *shape), schedule=schedule, nets=nets)

    def _net(self, part: str, dtype: Any) -> Any:
        from torch import nn

        return self.parts.net(part, lambda config: nn.Conv2d(config["in_channels"], 3, 3, padding=1), dtype)


def colour(text: str) -> list[float]:
    """Three numbers around 0 that say what the first words are."""
    digest = hashlib.sha256(" ".join(text.split()[:WORDS]).encode()).digest()
    return [byte / 128 - 1 for byte in digest[:3]]


def write(folder: Path) -> Path:
    """A random model in a new folder."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(1)
    for part, channels in (("base", 3), ("enlarger", 6)):
        (folder / part).mkdir(parents=True)
        config = {"in_channels": channels, "sample_size": SIDES[part], "block_out_channels": [3]}
        (folder / part / "config.json").write_text(json.dumps(config))
        weights = {"weight": torch.randn(3, channels, 3, 3, generator=generator) / 9, "bias": torch.zeros(3)}
        save_file(weights, folder / part / "diffusion_pytorch_model.safetensors")
        (folder / f"{part}_scheduler").mkdir()
        schedule = {"_class_name": "DDIMScheduler", "num_train_timesteps": 100, "beta_schedule": "linear"}
        (folder / f"{part}_scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": LAYOUT.pipeline}))
    return folder
