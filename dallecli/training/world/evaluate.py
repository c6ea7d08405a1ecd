"""How often a model paints what was asked, in the words of a judge that never saw a painted picture.

Scenes and prompts are of seeds that no pool reaches, and two things in a prompt are pairs that no training scene shows
together. The judge's own accuracy on drawn scenes stands beside the model's figures: no model can be
seen to reach more.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dallecli.engine import Engine
from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.pictures.picture import encode
from dallecli.pictures.sheets import grid
from dallecli.publish import publish
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tokens import ClipTokenizer
from dallecli.training.stages.clip import recall, same_caption
from dallecli.training.states import caption_states, picture_embeddings
from dallecli.training.world.judge import Judge, JudgeData, accuracies, in_order, verdicts
from dallecli.training.world.pool import Prompt, scene_prompts, scenes, single_prompts, style_prompts
from dallecli.training.world.scenes import HELD_OUT_SEEDS, SINGLES, Mix, Scene, render
from dallecli.training.world.starter import Workshop
from dallecli.training.world.vocabulary import things
from dallecli.weights.load import load_net
from dallecli.weights.registry import find, locate

PROMPT_SEED = HELD_OUT_SEEDS + 2**20
"""Seeds from here on draw the prompts and scenes of the evaluation; no pool reaches them."""
DRAWN = 1000
"""Drawn scenes on which the judge's own accuracy and CLIP's recall are measured."""
SHOWN = 32
"""How many uncurated pictures of each kind the contact sheet shows."""
SIDE = 64
"""The side in pixels from which pictures are judged; the judge itself looks at half of it."""

PAIRS = replace(Mix(), single=0, count=0, plain=0.3, place=0, style=0, split="held_out")
"""Two things on plain ground, in pairs that no training scene shows."""
ANYTHING = replace(Mix(), split="any")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One question to the model: `prompts` of a count, and `drawn` scenes that show what a right answer is."""

    name: str
    prompts: Callable[[int], tuple[Prompt, ...]]
    drawn: Mix


KINDS = (
    Kind(name="single", prompts=lambda n: single_prompts(n, PROMPT_SEED), drawn=replace(SINGLES, style=0)),
    Kind(
        name="background",
        prompts=lambda n: single_prompts(n, PROMPT_SEED + 1, named_background=True),
        drawn=replace(SINGLES, plain=1, place=0, style=0),
    ),
    Kind(name="pair", prompts=lambda n: scene_prompts(scenes(PROMPT_SEED + 2**16, n, PAIRS)), drawn=PAIRS),
    Kind(name="style", prompts=lambda n: style_prompts(n, PROMPT_SEED + 2), drawn=replace(SINGLES, style=1)),
    Kind(
        name="anything",
        prompts=lambda n: scene_prompts(scenes(PROMPT_SEED + 2**17, n, ANYTHING)),
        drawn=ANYTHING,
    ),
)
"""Single things; single things on a named colour; pairs; single things in a style; whatever a training scene may be."""


def evaluate(
    workshop: Workshop,
    ask: Generate,
    *,
    count: int,
    kinds: Sequence[str] | None = None,
    out: Path | None = None,
    references: bool = True,
    watch: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Paint `count` prompts of each kind (all of `KINDS` if None) and judge them.

    `ask` holds the model and its dials; its prompt is replaced, and picture i of a kind has its seed + i. With `out`,
    the first 32 pictures of each kind are written there as a sheet, in order, uncurated, with their prompts beside.

    Without `references`, only what was painted is judged: no drawn scenes, and not CLIP.

    Returned are shares in [0, 1] by name: those of a kind begin with its name, those of drawn scenes with "drawn_". A
    Fréchet distance ("frechet") and a distance to the nearest training scene ("nearest", in levels of 255) are
    those of the kind "anything", where it is among the kinds; CLIP's recall is there if the model has an image tower.

    Raises:
        NotDownloaded: the judge has not been trained in the workshop.
        DalleError: whatever the model's engine refuses.
    """
    judge = workshop.trained("judge")
    assert isinstance(judge, Judge)  # for the type checker: that is what the judge's stage makes
    asked = [kind for kind in KINDS if kinds is None or kind.name in kinds]
    engine = LocalEngine()
    size = min((one for one in locate(find(ask.model)).sizes() if one >= SIDE), default=None)
    ask = replace(ask, seed=ask.seed if ask.seed is not None else 0, size=size, count=1)
    figures: dict[str, float] = {}
    for place, kind in enumerate(asked):
        prompts = kind.prompts(count)
        pictures = []
        for number, prompt in enumerate(prompts):
            pictures.append(_painted(engine, ask, prompt, number))
            if watch is not None:
                watch(place * count + number + 1, len(asked) * count)
        painted = _stacked(pictures)
        figures |= _judged(judge, kind.name, painted, prompts)
        if references:
            drawn = list(scenes(PROMPT_SEED + 2**18, DRAWN, kind.drawn))
            figures |= _judged(judge, f"drawn_{kind.name}", _stacked(_rendered(drawn)), scene_prompts(drawn))
        if kind.name == "anything":
            figures |= _likeness(workshop, judge, painted)
        if out is not None:
            _write_sheet(out, kind.name, pictures[:SHOWN], prompts[:SHOWN])
    return figures | _clip_recall(ask.model) if references else figures


def _painted(engine: Engine, ask: Generate, prompt: Prompt, number: int) -> NDArray[np.uint8]:
    assert ask.seed is not None  # for the type checker: `evaluate` sets it
    request = replace(ask, prompt=prompt.caption, seed=ask.seed + number)
    (picture,) = engine.paint(engine.resolve(request), lambda _: None)
    return np.asarray(picture.image)


def _rendered(found: Sequence[Scene]) -> list[NDArray[np.uint8]]:
    return [render(scene, SIDE) for scene in found]


def _stacked(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _judged(judge: Judge, name: str, pictures: Tensor, prompts: Sequence[Prompt]) -> dict[str, float]:
    objects = torch.zeros(len(prompts), len(things()))
    for row, prompt in enumerate(prompts):
        objects[row, list(prompt.things)] = 1
    data = JudgeData(
        pictures,
        objects,
        torch.tensor([prompt.background for prompt in prompts]),
        torch.tensor([prompt.style for prompt in prompts]),
    )
    figures = accuracies(judge, data)
    ordered = [(row, prompt.order) for row, prompt in enumerate(prompts) if prompt.order is not None]
    if ordered:
        rows = torch.tensor([row for row, _ in ordered])
        figures["relation"] = in_order(judge, pictures[rows], [order for _, order in ordered])
    return {f"{name}_{figure}": value for figure, value in figures.items()}


# --- how alike --------------------------------------------------------------------------------------------------


def _likeness(workshop: Workshop, judge: Judge, painted: Tensor) -> dict[str, float]:
    """Distances of painted pictures to drawn scenes, each beside what as many other drawn scenes reach."""
    drawn, others = (
        _stacked(_rendered(list(scenes(PROMPT_SEED + seed, len(painted), ANYTHING)))) for seed in (2**19, 2**19 + 2**18)
    )
    known, size = workshop.dataset.pictures(workshop.dataset.train_pool, 16), (16, 16)
    nearest = {
        name: float(nearest_distances(F.interpolate(some.float(), size, mode="area"), known).median())
        for name, some in (("nearest", painted), ("drawn_nearest", drawn))
    }
    features = [verdicts(judge, some).features for some in (painted, drawn, others)]
    return nearest | {
        "frechet": frechet(features[0], features[1]),
        "drawn_frechet": frechet(features[2], features[1]),
    }


def frechet(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance of two sets of features [n d], taken as Gaussians (Heusel et al. 2017).

    It is biased upwards by few samples, so it means something beside that of two sets of one kind and this size.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # The trace of (A B)^1/2 is that of (A^1/2 B A^1/2)^1/2, which is symmetric.
    mixed = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return float(apart + cov_a.trace() + cov_b.trace() - 2 * mixed)


def nearest_distances(pictures: Tensor, known: Tensor) -> Tensor:
    """Return the root-mean-square difference [n] of each picture [n 3 h w] to the nearest of `known` [m 3 h w]."""
    flat = pictures.float().flatten(1)
    parts = [torch.cdist(flat, part.float().flatten(1)).amin(dim=1) for part in torch.split(known, 8192)]
    return torch.stack(parts).amin(dim=0) / math.sqrt(flat.shape[1])


# --- CLIP -------------------------------------------------------------------------------------------------------


def _clip_recall(model: str) -> dict[str, float]:
    """How often the model's own CLIP finds the right one among 1000 drawn scenes, and in its first five."""
    folder = locate(find(model))
    if "image_encoder" not in folder.parts:
        return {}
    cpu = torch.device("cpu")
    text_config = ClipTextConfig.from_config(folder.config("text_encoder"))
    vision_config = ClipVisionConfig.from_config(folder.config("image_encoder"))
    text = load_net(lambda: CLIPTextModel(text_config), folder.weights_file("text_encoder"), torch.float32, cpu)
    vision = load_net(lambda: CLIPVisionModel(vision_config), folder.weights_file("image_encoder"), torch.float32, cpu)
    tokenizer = ClipTokenizer.open(folder.path / "tokenizer")
    drawn = list(scenes(PROMPT_SEED + 2**18, DRAWN, ANYTHING))
    ids = torch.tensor([tokenizer.encode(scene.caption).ids for scene in drawn])
    captions = caption_states(text, ids, torch.tensor(tokenizer.encode("").ids))
    size = vision_config.image_size
    pictures = F.interpolate(_stacked(_rendered(drawn)).float(), (size, size), mode="area")
    texts, images = captions.embedding[captions.row], picture_embeddings(vision, pictures)
    scores, same = F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T, same_caption(ids)
    return {
        f"clip_{direction}_{first}": recall(table, same, first)
        for direction, table in (("text_to_image", scores), ("image_to_text", scores.T))
        for first in (1, 5)
    }


def _write_sheet(folder: Path, name: str, pictures: list[NDArray[np.uint8]], prompts: tuple[Prompt, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sheet = grid([Image.fromarray(picture) for picture in pictures])
    publish(folder / f"{name}.png", encode(sheet, "png", None), force=True)
    text = "".join(f"{prompt.caption}\n" for prompt in prompts)
    publish(folder / f"{name}.txt", text.encode(), force=True)
