"""How often a model paints what was asked, in the words of a judge that never saw a painted picture.

Prompts are of held-out seeds. The judge's own accuracy on drawn, held-out scenes stands beside the model's figures: it
is the most that a model can reach.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dallecli.engine import Engine
from dallecli.picture import encode, grid, publish
from dallecli.request import Generate
from dallecli.studio import LocalEngine
from dallecli.training.judge import Judge, JudgeData, accuracies
from dallecli.training.pool import Prompt, label, prompts_for_judging, scenes
from dallecli.training.scenes import HELD_OUT_SEEDS, SINGLES, render
from dallecli.training.starter import Workshop
from dallecli.training.vocabulary import things

PROMPT_SEED = HELD_OUT_SEEDS + 2**20
"""Seeds from here on draw the prompts and scenes of the evaluation; no pool reaches them."""
SHOWN = 32
"""How many uncurated pictures of each kind the contact sheet shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    name: str
    named_background: bool


KINDS = (_Kind(name="single", named_background=False), _Kind(name="background", named_background=True))
"""Single things, and single things on a named plain background."""


def evaluate(
    workshop: Workshop,
    model: str,
    *,
    count: int,
    seed: int,
    device: str | None = None,
    out: Path | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Paint `count` prompts of each kind with the model's defaults and judge them.

    Picture i of a kind has seed `seed` + i. With `out`, the first 32 of each kind are written there as a sheet, in
    order, uncurated, with their prompts in a text file.

    Raises:
        NotDownloaded: the judge has not been trained in the workshop.
        DalleError: whatever the model's engine refuses.
    """
    judge = workshop.trained("judge")
    if not isinstance(judge, Judge):
        raise TypeError(f"the judge is a {type(judge).__name__}")
    figures = {f"real_{name}": value for name, value in _on_drawn_scenes(judge).items()}
    engine = LocalEngine()
    for place, kind in enumerate(KINDS):
        prompts = prompts_for_judging(count, PROMPT_SEED + place, kind.named_background)
        pictures = []
        for number, prompt in enumerate(prompts):
            pictures.append(_painted(engine, model, prompt, seed + number, device))
            if watch is not None:
                watch(place * count + number + 1, len(KINDS) * count)
        figures |= {f"{kind.name}_{name}": value for name, value in accuracies(judge, _data(pictures, prompts)).items()}
        if out is not None:
            _write_sheet(out, kind.name, pictures[:SHOWN], prompts[:SHOWN])
    return figures


def _painted(engine: Engine, model: str, prompt: Prompt, seed: int, device: str | None) -> NDArray[np.uint8]:
    request = Generate(prompt=prompt.caption, model=model, seed=seed, device=device)
    (picture,) = engine.paint(engine.resolve(request), lambda _: None)
    return np.asarray(picture.image)


def _data(pictures: list[NDArray[np.uint8]], prompts: tuple[Prompt, ...]) -> JudgeData:

    objects = torch.zeros(len(prompts), len(things()))
    objects[torch.arange(len(prompts)), torch.tensor([prompt.thing for prompt in prompts])] = 1
    background = torch.tensor([prompt.background for prompt in prompts])
    return JudgeData(_stacked(pictures), objects, background, torch.zeros(len(prompts), dtype=torch.long))


def _on_drawn_scenes(judge: Judge, count: int = 1000) -> dict[str, float]:
    """The judge on drawn single-thing scenes that nobody has trained on."""
    drawn = list(scenes(PROMPT_SEED + 2**10, count, replace(SINGLES, split="any")))
    labels = label(drawn)
    data = JudgeData(
        _stacked([render(scene, 64) for scene in drawn]),
        torch.from_numpy(labels.objects > 0).float(),
        torch.from_numpy(labels.background),
        torch.from_numpy(labels.style),
    )
    return accuracies(judge, data)


def _stacked(pictures: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _write_sheet(folder: Path, name: str, pictures: list[NDArray[np.uint8]], prompts: tuple[Prompt, ...]) -> None:

    folder.mkdir(parents=True, exist_ok=True)
    sheet = grid([Image.fromarray(picture) for picture in pictures])
    publish(folder / f"{name}.png", encode(sheet, "png", None), force=True)
    text = "".join(f"{prompt.caption}\n" for prompt in prompts)
    publish(folder / f"{name}.txt", text.encode(), force=True)
