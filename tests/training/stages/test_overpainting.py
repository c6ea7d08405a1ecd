"""Small pictures that the decoder paints over, as the starter's first upsampler learns from them."""

import pytest
import torch
from torch import Tensor

from dallecli.training.batch import Draw
from dallecli.training.preset_file import load_own, read_preset
from dallecli.training.stages.decoder import DecoderParts
from dallecli.training.stages.overpainting import Overpainter
from dallecli.training.stages.stage import trained_schedule
from dallecli.training.stages.unclip import stages_of
from dallecli.training.stages.upsampler import UpsamplerLesson
from dallecli.training.states import CaptionTable

CHOSEN = torch.tensor([0, 2])


@pytest.fixture(scope="module")
def overpainter() -> Overpainter:
    """A decoder with random weights, and three samples that differ in all that it is told."""
    stage = stages_of(read_preset(load_own("tiny"), "tiny"), lambda: 512)["decoder"]
    torch.manual_seed(1)
    parts = stage.fresh().eval()
    assert isinstance(parts, DecoderParts)
    text = parts.text_proj.config
    generator = torch.Generator().manual_seed(2)
    captions = CaptionTable(
        embedding=torch.randn(4, text.clip_embeddings_dim, generator=generator),
        hidden=torch.randn(4, 8, text.clip_embeddings_dim, generator=generator),
        mask=torch.ones(4, 8, dtype=torch.bool),
        row=torch.tensor([1, 2, 3]),
    )
    embeddings = torch.randn(3, text.clip_embeddings_dim, generator=generator)
    schedule = trained_schedule(stage.configs["decoder_scheduler"], "decoder_scheduler")
    return Overpainter(parts, schedule, embeddings, captions)


def small() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_what_is_painted_over_is_another_picture_of_the_same_kind(overpainter: Overpainter) -> None:
    painted = overpainter(CHOSEN, small(), Draw(4, 2, torch.device("cpu")))
    assert painted.shape == small().shape
    assert painted.abs().max() <= 1
    assert (painted - small()).abs().max() > 0.05
    again = overpainter(CHOSEN, small(), Draw(4, 2, torch.device("cpu")))
    assert torch.equal(painted, again)


def test_a_picture_is_painted_by_what_it_is_told_and_not_by_its_neighbour(overpainter: Overpainter) -> None:
    painted = overpainter(CHOSEN, small(), Draw(4, 2, torch.device("cpu")))
    other = overpainter(torch.tensor([0, 1]), small(), Draw(4, 2, torch.device("cpu")))
    assert torch.allclose(painted[0], other[0], atol=1e-5)
    assert not torch.allclose(painted[1], other[1], atol=1e-3)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="painted"):
        UpsamplerLesson(painted=share)
