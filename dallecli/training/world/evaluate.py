"""How often a model paints what was asked, in the words of a judge that never saw a painted picture.

Scenes and prompts are of seeds that no pool reaches, and two things in a prompt are pairs that no training scene shows
together. The judge's own accuracy on drawn scenes stands beside the model's figures: no model can be
seen to reach more.
"""

import math
from collections.abc import Callable, Iterator, Sequence
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
from dallecli.training.world.detail import edges, gradient_energy
from dallecli.training.world.judge import Judge, JudgeData, accuracies, in_order, verdicts
from dallecli.training.world.pool import scenes
from dallecli.training.world.prompts import PROMPT_SEED, scene_prompts
from dallecli.training.world.starter import Workshop
from dallecli.training.world.variety import variety
from dallecli.training.world.world import Drawable, Prompt, World
from dallecli.weights.load import load_net
from dallecli.weights.registry import find, locate

DRAWN = 1000
"""Drawn scenes on which the judge's own accuracy and CLIP's recall are measured."""
SHOWN = 32
"""How many uncurated pictures of each kind the contact sheet shows."""
TOGETHER = 16
"""How many pictures are painted together."""
SIDE = 64
"""The side in pixels from which pictures are judged; the judge itself looks at half of it."""

ANYTHING = "anything"
"""The kind that is also asked how like its pictures are to drawn ones."""
VARIETY, DETAIL = "variety", "detail"
"""The two kinds that no judge answers prompt by prompt: pictures of one caption, and pictures at full size."""


def kind_names(world: World) -> tuple[str, ...]:
    """The kinds of question that a model of a world can be asked."""
    return (*(kind.name for kind in world.kinds), VARIETY, DETAIL)


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
    """Paint `count` prompts of each kind (all of `kind_names` if None) and judge them.

    Of the kind "variety", a tenth as many seeds of each of its prompts are painted, and of "detail", `count` pictures
    at the model's full size.

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
    world = workshop.dataset.world
    names = [name for name in kind_names(world) if kinds is None or name in kinds]
    asked = [kind for kind in world.kinds if kind.name in names]
    sizes = locate(find(ask.model)).sizes()
    size = min((one for one in sizes if one >= SIDE), default=None)
    ask = replace(ask, seed=ask.seed if ask.seed is not None else 0, size=size, count=1)
    seeds = max(2, count // 10)
    brush = _Brush(
        LocalEngine(batch=TOGETHER),
        ask,
        count * (len(asked) + (DETAIL in names)) + seeds * len(world.varied()) * (VARIETY in names),
        watch,
    )
    figures: dict[str, float] = {}
    for kind in asked:
        prompts = kind.prompts(count)
        pictures = brush.paint(prompts)
        figures |= _judged(world, judge, kind.name, _stacked(pictures), prompts)
        if references:
            drawn = list(scenes(PROMPT_SEED + 2**18, DRAWN, kind.drawn))
            figures |= _judged(world, judge, f"drawn_{kind.name}", _stacked(_drawn(drawn)), scene_prompts(drawn))
        if kind.name == ANYTHING:
            figures |= _likeness(workshop, judge, _stacked(pictures))
        _write_sheet(out, kind.name, pictures[:SHOWN], prompts[:SHOWN])
    if VARIETY in names:
        figures |= _paint_variety(world, judge, brush, seeds, out)
    if DETAIL in names:
        figures |= _paint_detail(world, brush, count, max(sizes), out)
    return figures | _clip_recall(world, ask.model) if references else figures


def _paint_variety(world: World, judge: Judge, brush: "_Brush", seeds: int, out: Path | None) -> dict[str, float]:
    """How much pictures of one prompt differ over `seeds` seeds; four of each prompt are on the sheet."""
    shown = world.varied()
    varied = [brush.paint([prompt] * seeds) for prompt in shown]
    chosen = [(picture, prompt) for some, prompt in zip(varied, shown, strict=True) for picture in some[:4]]
    _write_sheet(out, VARIETY, [one for one, _ in chosen[:SHOWN]], [prompt for _, prompt in chosen[:SHOWN]])
    return _variety(world, judge, shown, varied)


def _paint_detail(world: World, brush: "_Brush", count: int, size: int, out: Path | None) -> dict[str, float]:
    """How like those of drawn scenes the edges of `count` pictures of `size` pixels are."""
    prompts = scene_prompts(scenes(PROMPT_SEED + 2**17, count, world.held_out))
    pictures = brush.paint(prompts, size)
    _write_sheet(out, DETAIL, pictures[:SHOWN], prompts[:SHOWN])
    return _detail(world, _stacked(pictures), size)


@dataclass(slots=True)
class _Brush:
    """Paints prompts with an engine and says how far it is; `whole` is how many pictures it will be in all."""

    engine: Engine
    ask: Generate
    whole: int
    watch: Callable[[int, int], None] | None
    done: int = 0

    def paint(self, prompts: Sequence[Prompt], size: int | None = None) -> list[NDArray[np.uint8]]:
        """Paint each prompt once, prompt i with the seed of `ask` + i, at `size` px or the request's own size.

        Some are painted together: each is the picture that it is alone.
        """
        ask = self.ask if size is None else replace(self.ask, size=size)
        assert ask.seed is not None  # for the type checker: `evaluate` sets it
        requests = [replace(ask, prompt=prompt.caption, seed=ask.seed + place) for place, prompt in enumerate(prompts)]
        pictures: list[NDArray[np.uint8]] = []
        for start in range(0, len(requests), TOGETHER):
            recipes = [self.engine.resolve(request) for request in requests[start : start + TOGETHER]]
            for picture in self.engine.paint_together(recipes, lambda _: None):
                pictures.append(np.asarray(picture.image))
                self.done += 1
                if self.watch is not None:
                    self.watch(self.done, self.whole)
        return pictures


def _drawn(found: Sequence[Drawable], size: int = SIDE) -> list[NDArray[np.uint8]]:
    return [scene.draw(size) for scene in found]


def _stacked(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _judged(world: World, judge: Judge, name: str, pictures: Tensor, prompts: Sequence[Prompt]) -> dict[str, float]:
    objects = torch.zeros(len(prompts), len(world.things))
    for row, prompt in enumerate(prompts):
        objects[row, list(prompt.things)] = 1
    data = JudgeData(
        pictures,
        objects,
        torch.tensor([prompt.number for prompt in prompts]),
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


def _references(world: World, count: int, size: int = SIDE) -> Iterator[Tensor]:
    """Two sets of drawn scenes of anything."""
    for seed in (2**19, 2**19 + 2**18):
        yield _stacked(_drawn(list(scenes(PROMPT_SEED + seed, count, world.held_out)), size))


def _likeness(workshop: Workshop, judge: Judge, painted: Tensor) -> dict[str, float]:
    """Distances of painted pictures to drawn scenes, each beside what as many other drawn scenes reach."""
    drawn, others = _references(workshop.dataset.world, len(painted))
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


def _variety(
    world: World, judge: Judge, prompts: Sequence[Prompt], painted: Sequence[Sequence[NDArray[np.uint8]]]
) -> dict[str, float]:
    """How much the pictures of one caption vary, beside as many drawn scenes of the same caption."""
    drawn = []
    for place, (prompt, some) in enumerate(zip(prompts, painted, strict=True)):
        rng = np.random.default_rng(PROMPT_SEED + place)
        drawn.append(_stacked(_drawn([world.redraw(rng, prompt) for _ in some])))
    figures = variety(judge, [_stacked(some) for some in painted], drawn)
    return {f"{VARIETY}_{name}": value for name, value in figures.items()}


def _detail(world: World, painted: Tensor, size: int) -> dict[str, float]:
    """How sharp large pictures are, as a share of drawn ones, and how like them, beside what drawn ones reach."""
    drawn, others = _references(world, len(painted), size)
    features = [edges(some) for some in (painted, drawn, others)]
    return {
        f"{DETAIL}_energy": gradient_energy(painted) / gradient_energy(drawn),
        f"drawn_{DETAIL}_energy": gradient_energy(others) / gradient_energy(drawn),
        f"{DETAIL}_frechet": frechet(features[0], features[1]),
        f"drawn_{DETAIL}_frechet": frechet(features[2], features[1]),
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


def _clip_recall(world: World, model: str) -> dict[str, float]:
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
    drawn = list(scenes(PROMPT_SEED + 2**18, DRAWN, world.held_out))
    ids = torch.tensor([tokenizer.encode(scene.caption).ids for scene in drawn])
    captions = caption_states(text, ids, torch.tensor(tokenizer.encode("").ids))
    size = vision_config.image_size
    pictures = F.interpolate(_stacked(_drawn(drawn)).float(), (size, size), mode="area")
    texts, images = captions.embedding[captions.row], picture_embeddings(vision, pictures)
    scores, same = F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T, same_caption(ids)
    return {
        f"clip_{direction}_{first}": recall(table, same, first)
        for direction, table in (("text_to_image", scores), ("image_to_text", scores.T))
        for first in (1, 5)
    }


def _write_sheet(
    folder: Path | None, name: str, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[Prompt]
) -> None:
    """Write a sheet of pictures and their prompts beside it, where there is a folder for them."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    sheet = grid([Image.fromarray(picture) for picture in pictures])
    publish(folder / f"{name}.png", encode(sheet, "png", None), force=True)
    text = "".join(f"{prompt.caption}\n" for prompt in prompts)
    publish(folder / f"{name}.txt", text.encode(), force=True)
