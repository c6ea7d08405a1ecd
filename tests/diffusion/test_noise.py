"""One generator a picture: its draws are its own."""

import torch

from dallecli.diffusion.noise import Noise


def test_a_picture_draws_the_same_alone_or_in_a_batch():
    together, alone = Noise([7, 8, 9]), Noise([8])
    for shape in [(5,), (3, 8, 8), (3, 4, 4)]:
        assert torch.equal(together.draw(shape)[1:2], alone.draw(shape))


def test_draws_are_those_of_one_torch_generator():
    generator = torch.Generator().manual_seed(3)
    noise = Noise([3])
    for shape in [(64,), (3, 16, 16)]:
        assert torch.equal(noise.draw(shape), torch.randn(1, *shape, generator=generator))


def test_seed_zero_is_a_seed():
    assert not torch.equal(Noise([0]).draw((8,)), Noise([1]).draw((8,)))
    assert torch.equal(Noise([0]).draw((8,)), Noise([0]).draw((8,)))


def test_half_noise_is_the_float_noise_cast():
    x = torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16)
    drawn = Noise([1]).like(x)
    assert drawn.dtype == torch.bfloat16
    assert torch.equal(drawn, Noise([1]).draw((3, 8, 8)).bfloat16())


def test_rewinding_repeats_the_draws():
    noise = Noise([1, 2])
    noise.draw((4,))
    there = noise.state()
    first = [noise.draw((4,)), noise.draw((3, 2))]
    noise.rewind(there)
    assert all(torch.equal(a, noise.draw(a.shape[1:])) for a in first)


def test_rivals_do_not_change_the_pictures_own_draws():
    one, three = Noise([5, 6]), Noise([5, 6])
    own = one.rivals(1).draw((8,))
    rivals = three.rivals(3).draw((8,))
    assert torch.equal(rivals[[0, 3]], own)
    assert torch.equal(one.draw((3, 4, 4)), three.draw((3, 4, 4)))


def test_rivals_differ_from_each_other_and_from_neighbouring_seeds():
    rivals = Noise([5, 6]).rivals(3).draw((8,))
    neighbours = Noise(range(4, 10)).draw((8,))
    assert len(torch.cat([rivals, neighbours]).unique(dim=0)) == 6 + 6 - 2


def test_global_randomness_is_left_alone():
    before = torch.get_rng_state()
    Noise([1]).rivals(2).draw((8,))
    assert torch.equal(before, torch.get_rng_state())
