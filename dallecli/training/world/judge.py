"""The judge: a small classifier of scenes, trained on drawn scenes only, that says what a painted picture shows.

It shares no weights with CLIP, which had a hand in painting: a picture can please CLIP and show nothing. It looks
at 32 px, whatever the picture's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.layers import channels_last
from dallecli.training.batch import Draw
from dallecli.training.world.world import MOST_THINGS, UNKNOWN

SIZE = 32
"""The side of the picture that the judge sees, in pixels."""


@dataclass(slots=True)
class Verdict:
    """What the judge says of a batch.

    Logits of each thing being there `objects` [b things], of one, two, … things being there in all `number` [b 3], of
    the named `background` [b grounds], of the `style` [b styles], of whose drawing it is `look` [b looks], of its being
    seen in the mirror `mirrored` [b 2]; a judge of a world with one drawing a thing knows nothing of the last two,
    [b 0]. `places` [b things 2] is where each thing would be, as x and y from 0 (left, top) to 1. `features` [b d] are
    what number, background and style are read from, `focus` [b d] those of the cells where a thing is.
    """

    objects: Tensor
    number: Tensor
    background: Tensor
    style: Tensor
    look: Tensor
    mirrored: Tensor
    places: Tensor
    features: Tensor
    focus: Tensor


class Judge(nn.Module):
    """Convolutions to an 8 x 8 map; a thing is there if any cell of the map says so (log-sum-exp)."""

    def __init__(self, things: int, backgrounds: int, styles: int, looks: int = 0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_stage(3, 32, 1),
            *_stage(32, 64, 2),
            *_stage(64, 96, 1),
            *_stage(96, 128, 2),
            *_stage(128, 128, 1),
        )
        self.objects = nn.Conv2d(128, things, 1)
        # A thing is rare: begin by saying no, or the first steps are spent on learning that.
        nn.init.constant_(self.objects.bias, -5.5)  # type: ignore[arg-type]  # a convolution with a bias
        self.number = _head(MOST_THINGS)
        self.background = nn.Linear(128, backgrounds)
        self.style = nn.Linear(128, styles)
        self.look = _head(looks) if looks else None
        self.mirrored = _head(2) if looks else None

    def forward(self, pictures: Tensor) -> Verdict:
        """Judge uint8 or float pictures [b 3 s s] in [0, 255]."""
        x = F.interpolate(pictures.float(), size=(SIZE, SIZE), mode="area") / 127.5 - 1
        cells = self.body(x.contiguous(memory_format=torch.channels_last))
        pooled = cells.mean(dim=(2, 3))
        logits = self.objects(cells)
        objects = logits.flatten(2).logsumexp(dim=-1)
        # Where any thing is, by its likeliest cells.
        share = logits.logsumexp(dim=1).flatten(1).softmax(dim=-1)
        focus = torch.einsum("bdc,bc->bd", cells.flatten(2), share)
        none = focus[:, :0]
        return Verdict(
            objects=objects,
            number=self.number(pooled),
            background=self.background(pooled),
            style=self.style(pooled),
            look=none if self.look is None else self.look(focus),
            mirrored=none if self.mirrored is None else self.mirrored(focus),
            places=_places(logits),
            features=pooled,
            focus=focus,
        )


def _places(logits: Tensor) -> Tensor:
    """Return the mean position [b k 2] under the softmax of each map of `logits` [b k h w], x and y from 0 to 1."""
    height, width = logits.shape[2:]
    share = logits.flatten(2).softmax(dim=-1).view(logits.shape)
    x, y = torch.linspace(0, 1, width, device=logits.device), torch.linspace(0, 1, height, device=logits.device)
    return torch.stack([share.sum(dim=2) @ x, share.sum(dim=3) @ y], dim=-1)


def _head(classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, classes))


def _stage(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return [conv, nn.GroupNorm(8, channels_out), nn.SiLU()]


@dataclass(slots=True)
class JudgeData:
    """uint8 pictures [n 3 s s]; multi-hot things [n things]; how many things there are in all [n], from 1; classes [n]
    as in `Label`, look and mirrored if known.
    """

    pictures: Tensor
    objects: Tensor
    number: Tensor
    background: Tensor
    style: Tensor
    look: Tensor | None = None
    mirrored: Tensor | None = None


class JudgeObjective:
    """Binary cross-entropy on the things, cross-entropy on all that a picture has one of."""

    name = "judge"

    def __init__(self, judge: Judge, train: JudgeData, held_out: JudgeData) -> None:
        self.module = channels_last(judge)
        self.judge = judge
        self.train = train
        self.held_out = held_out

    def loss(self, draw: Draw) -> Tensor:
        """Return the loss of a random batch, slightly noised, so that the judge does not lean on exact colours."""
        data = self.train
        chosen = draw.integers(len(data.pictures))
        pictures = data.pictures[chosen].float()
        size = 12 * draw.uniform(1, 1, 1)
        pictures = pictures + size * draw.normal(*pictures.shape[1:])
        verdict = self.judge(pictures)
        objects = F.binary_cross_entropy_with_logits(verdict.objects, data.objects[chosen], reduction="none")
        loss = objects.sum(dim=-1).mean() + F.cross_entropy(verdict.background, data.background[chosen])
        loss = loss + F.cross_entropy(verdict.style, data.style[chosen])
        loss = loss + F.cross_entropy(verdict.number, data.number[chosen] - 1)
        for logits, classes in ((verdict.look, data.look), (verdict.mirrored, data.mirrored)):
            if logits.shape[1] and classes is not None:
                loss = loss + _where_known(logits, classes[chosen])
        return loss

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the accuracies on held-out scenes (see `accuracies`)."""
        return accuracies(self.judge, self.held_out)

    def samples(self) -> None:
        """There is nothing to see."""


def _where_known(logits: Tensor, classes: Tensor) -> Tensor:
    """The cross-entropy, where the class can be told; a batch without any costs nothing."""
    return F.cross_entropy(logits, classes, ignore_index=UNKNOWN, reduction="sum") / max(len(classes), 1)


@torch.no_grad()
def verdicts(judge: Judge, pictures: Tensor) -> Verdict:
    """Return the verdict on all of `pictures` [n 3 s s], judged in batches."""
    parts = [judge(pictures[start : start + 256]) for start in range(0, len(pictures), 256)]
    return Verdict(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Verdict)}
    )


def in_order(judge: Judge, pictures: Tensor, orders: Sequence[tuple[int, int, str]]) -> float:
    """Return the share of `pictures` [n 3 s s] where the judge sees two things in the order asked for.

    An order (first, second, axis) is kept when the first thing's most likely place is left of the second's ("x") or
    above it ("y"). Chance is one half: whether the things are there at all is another question.
    """
    places = verdicts(judge, pictures).places
    kept = [
        bool(place[first, "xy".index(axis)] < place[second, "xy".index(axis)])
        for place, (first, second, axis) in zip(places, orders, strict=True)
    ]
    return sum(kept) / len(kept)


def accuracies(judge: Judge, data: JudgeData) -> dict[str, float]:
    """Return what share of `data` the judge recognises.

    `objects`: of the pictures with k kinds of things, the share of those among the judge's k most likely;
    `all_objects`: the share of pictures with every thing among them; `number`: the share where as many things are found
    as there are; `background`: of the pictures with a named
    background, the share where it is the most likely named one; `style`: likewise of the pictures in a style; `look`
    and `mirrored`: of the pictures where they can be told. A share of nothing is left out.
    """
    verdict = verdicts(judge, data.pictures)
    found, wanted = [], data.objects.bool()
    for logits, there in zip(verdict.objects, wanted, strict=True):
        best = logits.topk(int(there.sum())).indices
        found.append(float(there[best].float().mean()))
    figures = {
        "objects": sum(found) / len(found),
        "all_objects": sum(share == 1 for share in found) / len(found),
        "number": float((verdict.number.argmax(dim=-1) + 1 == data.number).float().mean()),
    }
    named = data.background > 0
    if named.any():
        background = verdict.background[:, 1:].argmax(dim=-1) + 1
        figures["background"] = float((background == data.background)[named].float().mean())
    styled = data.style > 0
    if styled.any():
        style = verdict.style[:, 1:].argmax(dim=-1) + 1
        figures["style"] = float((style == data.style)[styled].float().mean())
    for name, logits, classes in (("look", verdict.look, data.look), ("mirrored", verdict.mirrored, data.mirrored)):
        if logits.shape[1] and classes is not None and (known := classes != UNKNOWN).any():
            figures[name] = float((logits.argmax(dim=-1) == classes)[known].float().mean())
    return figures
