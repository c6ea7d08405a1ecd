"""Pictures as codes that a network writes one after another: from its logits to the codes (Ramesh et al. 2021)."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from dallecli.diffusion.guidance import OFF
from dallecli.diffusion.noise import Noise
from dallecli.pipelines.drawing import allowed, mixed
from dallecli.pipelines.watch import LookingWatch
from dallecli.tasks.stages import CODES, TokenSettings

Writer = Callable[[Tensor], Tensor]
"""A network that has read the words. Given the codes [r k] that follow those it was given before, it returns the logits
[r n] of the next one. At first k is 0, or as many as are known of each picture.

Without guidance there is a row for each picture. With guidance the rows without the words come first, then those with
them, in the same order.
"""

Show = Callable[[Tensor], Sequence[Image.Image]]
"""From codes [b k] to unfinished pictures."""


def write_codes(
    writer: Writer,
    noise: Noise,
    dials: TokenSettings,
    count: int,
    watch: LookingWatch,
    *,
    known: Tensor | None = None,
    show: Show | None = None,
) -> tuple[Tensor, Tensor]:
    """Write codes up to `count` for each picture: [b count], and whether all of its logits were finite, [b].

    Each code takes one draw a code of the vocabulary from the picture's own generator, so its codes are the same in any
    batch. `known` [b k] are the first ones, which are kept, and take no draws. `show` is for progress.
    """
    guided = dials.guidance != OFF
    new = known if known is not None else torch.zeros(len(noise), 0, dtype=torch.long)
    codes, healthy = [new], torch.ones(len(noise), dtype=torch.bool)
    for done in range(new.shape[1] + 1, count + 1):
        logits = writer(new.repeat(2, 1) if guided else new).float()
        if guided:
            without, within = logits.chunk(2)
            logits = mixed(without, within, dials.guidance)
        healthy = healthy.to(logits.device) & logits.isfinite().all(dim=1)
        new = drawn_codes(allowed(logits.nan_to_num(), dials), noise)[:, None]
        codes.append(new)
        watch(CODES.name, done, count, None if show is None else _looking(show, codes))
    written = torch.cat([some.to(new.device) for some in codes], dim=1)
    return written, healthy.to(new.device)


def drawn_codes(shares: Tensor, noise: Noise) -> Tensor:
    """A code [b] for each picture, drawn with these shares [b n], which need not sum up to 1; one of 0 is never drawn.

    It is the first of so many rivals to arrive, each after a time from Exp(1) divided by its share.
    """
    return (shares / noise.exponential(shares.shape[1:], shares.device)).argmax(dim=1)


def unfinished(codes: Tensor, side: int, cell: int, decode: Show) -> list[Image.Image]:
    """Pictures of which the codes [b k] are written, row by row, of `side` codes on a side, each `cell` pixels wide.

    `decode` makes pictures of codes [b h w]. What is not there yet is grey.
    """
    rows = codes.shape[1] // side
    pictures = [Image.new("RGB", (side * cell, side * cell), (128, 128, 128)) for _ in range(len(codes))]
    if rows:
        for picture, top in zip(pictures, decode(codes[:, : rows * side].view(-1, rows, side)), strict=True):
            picture.paste(top, (0, 0))
    return pictures


def _looking(show: Show, codes: Sequence[Tensor]) -> Callable[[], Sequence[Image.Image]]:
    """Shows the codes that are there now, if it is asked."""
    now = list(codes)
    return lambda: show(torch.cat([some.to(now[-1].device) for some in now], dim=1))
