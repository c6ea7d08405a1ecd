"""The judge: a small classifier of scenes, trained on drawn scenes only, that says what a painted picture shows.

It shares no weights with CLIP, which had a hand in painting: a picture can please CLIP and show nothing. It looks
at 32 px, whatever the picture's size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 32
"""The side of the picture that the judge sees, in pixels."""


@dataclass(slots=True)
class Verdict:
    """Logits of each thing being there [b things], of the named background [b grounds], of the style [b styles]."""

    objects: Tensor
    background: Tensor
    style: Tensor


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
        objects = self.objects(cells).flatten(2).logsumexp(dim=-1)
        return Verdict(objects, self.background(pooled), self.style(pooled))


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
        self.module = judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        self.judge = judge
        self.train = train
        self.held_out = held_out

    def loss(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the loss of a random batch, slightly noised, so that the judge does not lean on exact colours."""
        data = self.train
        device = data.pictures.device
        chosen = torch.randint(len(data.pictures), (batch,), generator=generator, device=device)
        pictures = data.pictures[chosen].float()
        size = 12 * torch.rand((batch, 1, 1, 1), generator=generator, device=device)
        pictures = pictures + size * torch.randn(pictures.shape, generator=generator, device=device)
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
def accuracies(judge: Judge, data: JudgeData) -> dict[str, float]:
    """Return what share of `data` the judge recognises.

    `objects`: of the pictures with k kinds of things, the share of those among the judge's k most likely;
    `all_objects`: the share of pictures with every thing among them; `background`: of the pictures with a named
    background, the share where it is the most likely named one; `style`: likewise of the pictures in a style.
    A share of nothing is left out.
    """
    parts = range(0, len(data.pictures), 256)
    verdicts = [judge(data.pictures[start : start + 256]) for start in parts]
    objects = torch.cat([verdict.objects for verdict in verdicts])
    found, wanted = [], data.objects.bool()
    for logits, there in zip(objects, wanted, strict=True):
        best = logits.topk(int(there.sum())).indices
        found.append(float(there[best].float().mean()))
    figures = {
        "objects": sum(found) / len(found),
        "all_objects": sum(share == 1 for share in found) / len(found),
    }
    named = data.background > 0
    if named.any():
        background = torch.cat([verdict.background for verdict in verdicts])[:, 1:].argmax(dim=-1) + 1
        figures["background"] = float((background == data.background)[named].float().mean())
    styled = data.style > 0
    if styled.any():
        style = torch.cat([verdict.style for verdict in verdicts])[:, 1:].argmax(dim=-1) + 1
        figures["style"] = float((style == data.style)[styled].float().mean())
    return figures
