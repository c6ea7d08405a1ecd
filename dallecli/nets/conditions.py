"""What a denoising network is conditioned on besides the noised sample, prepared once for a whole run.

A context is the same in every step, and the times of all steps are known before the first one. So two things are
computed once and not once a step: the keys and values of the context, and each block's projection of the times.
"""

from collections.abc import Callable
from copy import copy
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import torch.nn.functional as F
from torch import Tensor, nn

MASKED: Final = -10000.0
"""Added to the logits of a masked key: finite, as the published networks were trained and as fp16 needs."""

AHEAD: Final = 64
"""Steps whose times are projected at once. All of a long run, for a large batch, would be gigabytes."""

Place = int | Tensor
"""The number of a step in its run, from 0; or an integer tensor [1] on the device, which then looks it up itself."""


def row_at(rows: Tensor, place: Place) -> Tensor:
    """The row of one step from `rows` [steps ...], without waiting for the device."""
    return rows[place] if isinstance(place, int) else rows.index_select(0, place)[0]


class KeysValues(NamedTuple):
    """The keys and the values of some tokens, each [b heads n d]: all that attention needs of them."""

    keys: Tensor
    values: Tensor


class Context:
    """The `tokens` [b n d] that an image attends to besides itself; each layer projects them once.

    `mask`, bool [b n], is True where a token counts; None if all do. Layers are referred to weakly, so the projections
    go with a network that is released.
    """

    def __init__(self, tokens: Tensor, mask: Tensor | None = None) -> None:
        self.tokens = tokens
        self._hidden = None if mask is None else ((~mask).to(tokens.dtype) * MASKED)[:, None, None, :]
        self._biases: dict[int, Tensor] = {}
        self._known: WeakKeyDictionary[nn.Module, KeysValues] = WeakKeyDictionary()
        self._rows = len(tokens)

    def last(self, rows: int) -> "Context":
        """The same for the last `rows` samples, which of paired ones are those with their conditions.

        Nothing is projected again: it looks at what the whole context knows.
        """
        if rows == self._rows:
            return self
        some = copy(self)
        some._rows = rows
        return some

    def once(self, layer: nn.Module, project: Callable[[Tensor], KeysValues]) -> KeysValues:
        """The tokens as `project`, a method of `layer`, projects them."""
        if layer not in self._known:
            self._known[layer] = project(self.tokens)
        known = self._known[layer]
        if self._rows == len(self.tokens):
            return known
        return KeysValues(known.keys[-self._rows :], known.values[-self._rows :])

    def bias(self, cells: int) -> Tensor | None:
        """The bias [b 1 1 n+cells] for the logits of these tokens and the image cells after them; None if all count."""
        if self._hidden is None:
            return None
        if cells not in self._biases:
            self._biases[cells] = F.pad(self._hidden, (0, cells))
        return self._biases[cells][-self._rows :]


class Times:
    """The time embeddings [steps b d] of a run, after their SiLU. All blocks share them; b is 1 if all samples do."""

    def __init__(self, embeddings: Tensor) -> None:
        self._embeddings = embeddings
        self._known: WeakKeyDictionary[nn.Module, tuple[int, Tensor]] = WeakKeyDictionary()

    def through(self, layer: nn.Module, place: Place) -> Tensor:
        """What a layer makes of the embedding [b d] of a step; `AHEAD` steps are computed at once.

        Where the device looks the step up itself, only the first `AHEAD` steps can be asked for.
        """
        group, row = divmod(place, AHEAD) if isinstance(place, int) else (0, place)
        known = self._known.get(layer)
        if known is None or known[0] != group:
            known = group, layer(self._embeddings[group * AHEAD : (group + 1) * AHEAD])
            self._known[layer] = known
        return row_at(known[1], row)


class Time(NamedTuple):
    """One step of a run."""

    times: Times
    place: Place
    rows: int | None = None
    """Only the last so many samples take this step; None if all do."""

    def through(self, layer: nn.Module) -> Tensor:
        """What a layer makes [b c] of the time embedding [b d]."""
        embedded = self.times.through(layer, self.place)
        return embedded if self.rows is None else embedded[-self.rows :]


class Conditions(NamedTuple):
    """All that a network is told in a run."""

    times: Times
    context: Context

    def at(self, place: Place, rows: int) -> tuple[Time, Context]:
        """What the last `rows` samples are told in one step."""
        return Time(self.times, place, rows), self.context.last(rows)
