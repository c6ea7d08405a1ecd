"""Every random number of a picture comes from the picture's own generator, on the CPU.

So its noise does not depend on the batch, the device or the dtype: float32 is drawn on the CPU, then converted and
moved.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Random draws for a batch of pictures, which have one generator each.

    A generator starts at its picture's seed. `generators` are given only to continue with existing ones.
    """

    def __init__(self, seeds: Sequence[int], generators: Sequence[torch.Generator] | None = None) -> None:
        self.seeds = tuple(seeds)
        if generators is None:
            generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        self._generators = tuple(generators)

    def __len__(self) -> int:
        return len(self._generators)

    def draw(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Draw the next numbers of `shape` for each of b pictures: [b *shape], float32."""
        return _moved(torch.stack([torch.randn(tuple(shape), generator=g) for g in self._generators]), device)

    def uniform(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Draw the next numbers of `shape`, evenly from [0, 1), for each of b pictures: [b *shape], float32."""
        return torch.stack([torch.rand(tuple(shape), generator=g) for g in self._generators]).to(device)

    def exponential(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Draw the next numbers of `shape` from Exp(1) for each of b pictures: [b *shape], float32, above 0.

        They are those that `torch.multinomial` draws on a CPU for one picture with the same generator, which then takes
        the token with the largest share divided by its number. Builds of torch with MKL may draw others, so its own
        `exponential_` is not called.
        """
        uniform = torch.stack([torch.rand(tuple(shape), generator=g, dtype=torch.float64) for g in self._generators])
        drawn = (-torch.log1p(-uniform)).float()
        return _moved(drawn.clamp_(min=torch.finfo(torch.float32).tiny), device)

    def like(self, x: Tensor) -> Tensor:
        """Draw the next numbers for a batch `x` [b ...], in its shape and dtype, on its device."""
        return self.draw(x.shape[1:], x.device).to(x.dtype)

    def for_pairs(self) -> "Noise":
        """The same noise for pipelines that draw for both halves of a guided batch, and go on with the first half."""
        return _PairedNoise(self.seeds, self._generators)

    def rivals(self, count: int) -> "Noise":
        """Noise for `count` rivals of each picture: candidates of which one is kept. Those of picture 0 come first.

        Rival 0 continues with the picture's own generator, so one rival changes nothing. The others are seeded from
        (seed, rival): however many there are, the picture's own generator makes the same draws.
        """
        seeds: list[int] = []
        generators: list[torch.Generator] = []
        for seed, own in zip(self.seeds, self._generators, strict=True):
            others = [_rival_seed(seed, rival) for rival in range(1, count)]
            seeds += [seed, *others]
            generators += [own, *(torch.Generator().manual_seed(other) for other in others)]
        return Noise(seeds, generators)

    def state(self) -> list[Tensor]:
        """The state of every generator, for `rewind`."""
        return [g.get_state() for g in self._generators]

    def rewind(self, state: Sequence[Tensor]) -> None:
        """Return to an earlier `state`: the same draws follow."""
        for generator, then in zip(self._generators, state, strict=True):
            generator.set_state(then)


class _PairedNoise(Noise):
    """Draws twice as many numbers as it returns: see `Noise.for_pairs`."""

    def draw(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        return super().draw((2, *shape), device)[:, 0]


def _moved(drawn: Tensor, device: torch.device | str) -> Tensor:
    """What was drawn, on a device."""
    if torch.device(device).type == "cuda":
        # From pinned memory the copy waits for nothing; from any other it waits for all work on the device.
        return drawn.pin_memory().to(device, non_blocking=True)
    return drawn.to(device)


def _rival_seed(seed: int, rival: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{rival}".encode()).digest()[:8], "big")
