"""Every random number of a picture, from a generator of the picture's own.

One CPU generator a picture means that its noise doesn't depend on the batch it is painted in, on the device or on the
dtype: torch draws float32 on the CPU and the result is cast and moved.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Standard normal draws for a batch of pictures, one seeded generator each, in the order they are asked for."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = list(generators)

    @classmethod
    def from_seeds(cls, seeds: Sequence[int]) -> "Noise":
        """Seed one generator a picture."""
        return cls([torch.Generator().manual_seed(seed) for seed in seeds])

    def __len__(self) -> int:
        return len(self._generators)

    def draw(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Draw the next `shape` of every picture: [pictures, *shape], float32."""
        return torch.stack([torch.randn(tuple(shape), generator=g) for g in self._generators]).to(device)

    def like(self, x: Tensor) -> Tensor:
        """Draw for the batch `x` [pictures, ...] in its shape, on its device and in its dtype."""
        return self.draw(x.shape[1:], x.device).to(x.dtype)

    def candidates(self, seeds: Sequence[int], count: int) -> "Noise":
        """Noise for `count` rivals of each picture: [p0 rival 0, p0 rival 1, ..., p1 rival 0, ...].

        Rival 0 goes on with the picture's own generator, so with one rival nothing changes. The others are seeded
        from (seed, rival): however many there are, the picture's own generator makes the same draws.
        """
        rivals = []
        for own, seed in zip(self._generators, seeds, strict=True):
            rivals += [own, *(torch.Generator().manual_seed(_rival_seed(seed, k)) for k in range(1, count))]
        return Noise(rivals)

    def state(self) -> list[Tensor]:
        """Remember where every generator stands, for `rewind`."""
        return [g.get_state() for g in self._generators]

    def rewind(self, state: Sequence[Tensor]) -> None:
        """Go back to a remembered state: the same draws follow."""
        for generator, then in zip(self._generators, state, strict=True):
            generator.set_state(then)


def _rival_seed(seed: int, rival: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{rival}".encode()).digest()[:8], "big")
