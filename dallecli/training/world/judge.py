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

SIZE = 32
"""The side of the picture that the judge sees, in pixels."""


@dataclass(slots=True)
class Verdict:
    """What the judge says of a batch.

    Logits of each thing being there `objects` [b things], of the named `background` [b grounds], of the `style`
    [b styles]. `places` [b things 2] is where each thing would be, as x and y from 0 (left, top) to 1;
    `features` [b d] are what background and style are read from.
    """

    objects: Tensor
    background: Tensor
    style: Tensor
    places: Tensor
    features: Tensor


class Judge(nn.Module):
    """Convolutions to an 8 x 8 map; a thing is there if any cell of the map says so (log-sum-exp)."""

    def __init__(self, things: int, backgrounds: int, styles: int) -> None:
        super().__init__()
        self.sizes = (things, backgrounds, styles)
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
        self.background = nn.Linear(128, backgrounds)
        self.style = nn.Linear(128, styles)

    def forward(self, pictures: Tensor) -> Verdict:
        """Judge uint8 or float pictures [b 3 s s] in [0, 255]."""
        x = F.interpolate(pictures.float(), size=(SIZE, SIZE), mode="area") / 127.5 - 1
        cells = self.body(x.contiguous(memory_format=torch.channels_last))
        pooled = cells.mean(dim=(2, 3))
        logits = self.objects(cells)
        objects = logits.flatten(2).logsumexp(dim=-1)
        return Verdict(objects, self.background(pooled), self.style(pooled), _places(logits), pooled)


def _places(logits: Tensor) -> Tensor:
    """Return the mean position [b k 2] under the softmax of each map of `logits` [b k h w], x and y from 0 to 1."""
    height, width = logits.shape[2:]
    share = logits.flatten(2).softmax(dim=-1).view(logits.shape)
    x, y = torch.linspace(0, 1, width, device=logits.device), torch.linspace(0, 1, height, device=logits.device)
    return torch.stack([share.sum(dim=2) @ x, share.sum(dim=3) @ y], dim=-1)


def _stage(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return [conv, nn.GroupNorm(8, channels_out), nn.SiLU()]


@dataclass(slots=True)
class JudgeData:
    """uint8 pictures [n 3 s s]; multi-hot things [n things]; classes of background and style [n]."""

    pictures: Tensor
    objects: Tensor
    background: Tensor
    style: Tensor


class JudgeObjective:
    """Binary cross-entropy on the things, cross-entropy on background and style."""

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
        background = F.cross_entropy(verdict.background, data.background[chosen])
        return objects.sum(dim=-1).mean() + background + F.cross_entropy(verdict.style, data.style[chosen])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the accuracies on held-out scenes (see `accuracies`)."""
        return accuracies(self.judge, self.held_out)

    def samples(self) -> None:
        """There is nothing to see."""


@torch.no_grad()
def verdicts(judge: Judge, pictures: Tensor) -> Verdict:
    """Return the verdict on all of `pictures` [n 3 s s], judged in batches."""
    parts = [judge(pictures[start : start + 256]) for start in range(0, len(pictures), 256)]
    return Verdict(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Verdict)))


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
    `all_objects`: the share of pictures with every thing among them; `background`: of the pictures with a named
    background, the share where it is the most likely named one; `style`: likewise of the pictures in a style.
    A share of nothing is left out.
    """
    verdict = verdicts(judge, data.pictures)
    found, wanted = [], data.objects.bool()
    for logits, there in zip(verdict.objects, wanted, strict=True):
        best = logits.topk(int(there.sum())).indices
        found.append(float(there[best].float().mean()))
    figures = {
        "objects": sum(found) / len(found),
        "all_objects": sum(share == 1 for share in found) / len(found),
    }
    named = data.background > 0
    if named.any():
        background = verdict.background[:, 1:].argmax(dim=-1) + 1
        figures["background"] = float((background == data.background)[named].float().mean())
    styled = data.style > 0
    if styled.any():
        style = verdict.style[:, 1:].argmax(dim=-1) + 1
        figures["style"] = float((style == data.style)[styled].float().mean())
    return figures
