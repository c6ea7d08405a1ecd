"""Every random number of a picture, from a generator of the picture's own.

One CPU generator a picture means that its noise doesn't depend on the batch it is painted in, on the device or on the
dtype: torch draws float32 on the CPU and the result is cast and moved.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Standard normal draws for a batch of pictures, one generator each, in the order they are asked for.

    A generator starts at its picture's seed. `generators` are given only to go on with some that are under way.
    """

    def __init__(self, seeds: Sequence[int], generators: Sequence[torch.Generator] | None = None) -> None:
        self.seeds = tuple(seeds)
        if generators is None:
            generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        self._generators = tuple(generators)

    def __len__(self) -> int:
        return len(self._generators)

    def draw(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Draw the next `shape` of every picture: [pictures, *shape], float32."""
        drawn = torch.stack([torch.randn(tuple(shape), generator=g) for g in self._generators])
        if torch.device(device).type == "cuda":
            # From pinned memory the copy waits for nothing; from any other it waits for all work on the device.
            return drawn.pin_memory().to(device, non_blocking=True)
        return drawn.to(device)

    def like(self, x: Tensor) -> Tensor:
        """Draw for the batch `x` [pictures, ...] in its shape, on its device and in its dtype."""
        return self.draw(x.shape[1:], x.device).to(x.dtype)

    def rivals(self, count: int) -> "Noise":
        """Noise for `count` rivals of each picture, in the order picture 0 rival 0, picture 0 rival 1, ...

        Rival 0 goes on with the picture's own generator, so with one rival nothing changes. The others are seeded
        from (seed, rival): however many there are, the picture's own generator makes the same draws.
        """
        seeds: list[int] = []
        generators: list[torch.Generator] = []
        for seed, own in zip(self.seeds, self._generators, strict=True):
            others = [_rival_seed(seed, rival) for rival in range(1, count)]
            seeds += [seed, *others]
            generators += [own, *(torch.Generator().manual_seed(other) for other in others)]
        return Noise(seeds, generators)

    def state(self) -> list[Tensor]:
        """Remember where every generator stands, for `rewind`."""
        return [g.get_state() for g in self._generators]

    def rewind(self, state: Sequence[Tensor]) -> None:
        """Go back to a remembered state: the same draws follow."""
        for generator, then in zip(self._generators, state, strict=True):
            generator.set_state(then)


def _rival_seed(seed: int, rival: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{rival}".encode()).digest()[:8], "big")
