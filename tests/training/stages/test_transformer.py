"""The stage of the transformer: what it minimises, and that a picture is encoded once."""

import math

import pytest
import torch

from dallecli.training.batch import Draw
from dallecli.training.dataset import Examples
from dallecli.training.stages.dvae import DvaeLesson, DvaeParts, DvaeStage
from dallecli.training.stages.transformer import TransformerLesson, TransformerObjective, TransformerStage

HALF = {"sample_size": 8, "vocab_size": 12, "block_out_channels": [4, 8], "layers_per_block": 1}
NET = {"vocab_size_txt": 9, "vocab_size_img": 12, "embed_dim": 8, "n_layers": 1, "n_heads": 2,
       "ctx_len_txt": 4, "ctx_len_img": 16}  # fmt: skip
CPU = torch.device("cpu")


class Captions:
    """A dataset of 20 pictures, of which the last 4 are held out."""

    held_out = 4
    ids = torch.randint(9, (20, 4), generator=torch.Generator().manual_seed(0))
    empty = torch.zeros(4, dtype=torch.long)


class CountingDvae(DvaeParts):
    """It remembers how many pictures it has encoded."""

    encoded = 0

    def codes(self, pictures: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pictures)
        return super().codes(pictures)


@pytest.fixture
def objective() -> TransformerObjective:
    torch.manual_seed(0)
    stage = TransformerStage(transformer=NET, size=8, lesson=TransformerLesson())
    dvae = DvaeStage(encoder=HALF, decoder=HALF | {"init_channels": 4}, size=8, lesson=DvaeLesson()).fresh()
    dvae.__class__ = CountingDvae
    pictures = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    examples = Examples(pictures=pictures, held_out=4)
    return TransformerObjective(stage.fresh(), dvae, examples, Captions(), TransformerLesson())


def test_fresh_weights_know_nothing_and_the_text_has_an_eighth_of_the_weight(objective: TransformerObjective) -> None:
    loss = objective.loss(Draw(0, 8, CPU))
    assert float(loss.detach()) == pytest.approx(math.log(9) / 8 + math.log(12) * 7 / 8, rel=0.01)
    loss.backward()
    assert all(weight.grad is not None for weight in objective.gpt.parameters())


def test_a_picture_is_encoded_once(objective: TransformerObjective) -> None:
    dvae, rows = objective.dvae, torch.tensor([3, 5, 3])
    assert isinstance(dvae, CountingDvae)
    first = objective.codes(rows)
    assert dvae.encoded == 2
    assert torch.equal(objective.codes(rows), first)
    assert dvae.encoded == 2
    assert torch.equal(first, dvae.codes(objective.examples.pictures[rows]).flatten(1))


def test_what_validates_is_held_out_and_captions_are_told_or_not(objective: TransformerObjective) -> None:
    figures = objective.validate()
    assert set(figures) == {"held_out", "untold", "text"}
    assert figures["held_out"] != figures["untold"]
    assert objective.samples().shape == (4, 3, 8, 8)


def test_its_vocabulary_is_the_tokenizers_where_that_is_trained_with_it() -> None:
    stage = TransformerStage(transformer=NET, size=8, lesson=TransformerLesson(), vocab_size=lambda: 7)
    assert stage.configs["decoder"]["vocab_size_txt"] == 7
    assert stage.fresh().head_txt.weight.shape == (7, 8)
