"""Codes from logits: which draws they take, and that no picture depends on its neighbours."""

import math

import torch
from PIL import Image

from dallecli.diffusion.noise import Noise
from dallecli.pipelines.drawing import allowed
from dallecli.pipelines.token_sampling import drawn_codes, unfinished, write_codes
from dallecli.tasks.stages import TokenSettings

FREE = TokenSettings(temperature=1.0, top_k=0, top_p=1.0, guidance=1.0)


def silent(stage: str, step: int, steps: int, /, look: object = None) -> None:
    """Nobody watches."""


def test_exponential_draws_are_the_logarithms_of_the_generators_own_numbers():
    drawn = Noise([3]).exponential((1000,))
    own = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn[0], torch.tensor([-math.log1p(-u) for u in own.tolist()], dtype=torch.float32))


def test_one_picture_draws_as_multinomial_does_with_its_seed():
    shares = torch.rand(1, 64, generator=torch.Generator().manual_seed(0))
    noise, own = Noise([5]), torch.Generator().manual_seed(5)
    for _ in range(20):
        assert torch.equal(drawn_codes(shares, noise), torch.multinomial(shares, 1, generator=own)[:, 0])
    assert torch.equal(noise.state()[0], own.get_state())


def test_what_has_no_share_is_never_drawn_and_likely_codes_come_often():
    shares = torch.tensor([[0.0, 3.0, 1.0]]).expand(4000, -1)
    counts = drawn_codes(shares, Noise(range(4000))).bincount(minlength=3)
    assert counts[0] == 0
    assert abs(counts[1] - 3000) < 150  # more than five deviations, which are 27


def test_codes_that_are_as_likely_as_the_last_of_the_top_k_stay():
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]])
    shares = allowed(logits, TokenSettings(temperature=1.0, top_k=2, top_p=1.0, guidance=1.0))
    assert (shares[0] > 0).tolist() == [True, False, True, True, False]


class Memory:
    """Logits that depend on the codes before, and on the row's own words."""

    def __init__(self, words: list[int]) -> None:
        self.words = torch.tensor(words)
        self.read: list[torch.Tensor] = []

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        self.read.append(codes)
        before = torch.cat(self.read, dim=1)
        key = (before * torch.arange(1, before.shape[1] + 1)).sum(dim=1) + 17 * self.words
        return torch.sin(key[:, None] * torch.arange(1, 33)) * 3


def test_a_picture_is_the_same_alone_and_among_others_also_with_guidance():
    for dials in (FREE, TokenSettings(temperature=1.5, top_k=8, top_p=0.9, guidance=3.0)):
        twice = 2 if dials.guidance != 1 else 1
        words = [1, 2, 3] if twice == 1 else [0, 0, 0, 1, 2, 3]
        codes, healthy = write_codes(Memory(words), Noise([7, 8, 9]), dials, 12, silent)
        for k in range(3):
            alone, _ = write_codes(Memory([0] * (twice - 1) + [k + 1]), Noise([7 + k]), dials, 12, silent)
            assert torch.equal(codes[k], alone[0])
        assert healthy.all()


def test_codes_that_are_known_are_kept_and_read_at_once():
    known = torch.tensor([[5, 6, 7]])
    memory = Memory([1])
    codes, _ = write_codes(memory, Noise([1]), FREE, 6, silent, known=known)
    assert codes[0, :3].tolist() == [5, 6, 7]
    assert [read.shape[1] for read in memory.read] == [3, 1, 1]


def test_a_picture_whose_logits_are_not_finite_is_found_and_no_other():
    def broken(codes: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0], [math.nan, 1.0]])

    assert write_codes(broken, Noise([1, 2]), FREE, 2, silent)[1].tolist() == [True, False]


def test_an_unfinished_picture_has_its_whole_rows_and_is_grey_below():
    seen = []

    def watch(stage: str, step: int, steps: int, /, look: object = None) -> None:
        seen.append((stage, step, steps, look() if callable(look) else None))

    def decode(codes: torch.Tensor) -> list[Image.Image]:
        return [Image.new("RGB", (2 * rows.shape[1], 2 * rows.shape[0]), "red") for rows in codes]

    write_codes(Memory([1]), Noise([1]), FREE, 9, watch, show=lambda codes: unfinished(codes, 3, 2, decode))
    assert [(stage, step, steps) for stage, step, steps, _ in seen] == [("codes", k, 9) for k in range(1, 10)]
    red = [picture.crop((0, 0, 1, 6)).tobytes().count(b"\xff\0\0") for *_, (picture,) in seen]
    assert red == [0, 0, 2, 2, 2, 4, 4, 4, 6]
    assert seen[2][3][0].getpixel((5, 5)) == (128, 128, 128)
