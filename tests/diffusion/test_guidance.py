"""Guidance mixes raw outputs, keeps the conditional variance, and at 1 is not there at all."""

import torch

from dallecli.diffusion.guidance import guided, pair
from dallecli.diffusion.schedule import Schedule

STEP = Schedule.from_config({"_class_name": "UnCLIPScheduler", "variance_type": "learned_range"}).steps(2)[0]


def channels_of(mean: float, variance: float | None = None):
    """A row of [1, 3 or 6, 1, 1] output."""
    values = [mean] * 3 + ([variance] * 3 if variance is not None else [])
    return torch.tensor(values).reshape(1, -1, 1, 1)


def test_guidance_one_is_no_guidance():
    def net(x, step):
        return x * 2

    assert guided(net, 1.0) is net


def test_guidance_moves_from_unconditional_through_conditional():
    def net(x, step):
        return pair(channels_of(1.0), channels_of(3.0))

    x = torch.zeros(1, 3, 1, 1)
    assert guided(net, 0.0)(x, STEP).unique().tolist() == [1.0]
    assert guided(net, 0.5)(x, STEP).unique().tolist() == [2.0]
    assert guided(net, 8.0)(x, STEP).unique().tolist() == [17.0]


def test_variance_is_the_conditional_halfs_unmixed():
    def net(x, step):
        return pair(channels_of(1.0, 10.0), channels_of(3.0, 20.0))

    output = guided(net, 8.0)(torch.zeros(1, 3, 1, 1), STEP)
    assert output.flatten().tolist() == [17.0, 17.0, 17.0, 20.0, 20.0, 20.0]


def test_both_halves_see_the_same_sample_in_one_pass():
    seen = []

    def net(x, step):
        seen.append(x)
        return x

    x = torch.arange(12.0).reshape(4, 3)
    guided(net, 3.0)(x, STEP)
    assert len(seen) == 1
    assert torch.equal(seen[0], torch.cat([x, x]))


def test_halves_are_mixed_in_the_samples_dtype():
    def net(x, step):
        return pair(channels_of(60000.0), channels_of(65000.0)).half()

    # In float16 the sum would be infinite: its largest number is 65504.
    output = guided(net, 8.0)(torch.zeros(1, 3, 1, 1), STEP)
    assert output.dtype == torch.float32
    assert output.isfinite().all()
