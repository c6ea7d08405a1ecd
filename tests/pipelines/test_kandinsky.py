"""What the Kandinsky pipeline promises beside parity: little memory, half precision, and no parts that don't fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import kandinsky_oracle as oracle
import pytest
import torch

from dallecli.diffusion.noise import Noise
from dallecli.errors import BadFile, BadFolder
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.given import Given, Hole
from dallecli.pipelines.kandinsky import open_kandinsky
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.size import Size
from dallecli.tasks.stages import DiffusionSettings
from dallecli.weights.folder import Folder

STAGES = {"decoder": DiffusionSettings(sampler="ancestral", steps=3, guidance=4.0)}
PRIOR = DiffusionSettings(sampler="ancestral", steps=3, guidance=4.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return oracle.write(tmp_path_factory.mktemp("models") / "kandinsky")


def opened(folder: Path, dtype: torch.dtype = torch.float32, kept: Any = None) -> UnClipParts[Any]:
    return open_kandinsky(Parts(Folder(folder), torch.device("cpu"), dtype, kept), "tiny").parts


def ignore(*progress: Any) -> None:
    """No progress bar."""


def paint(model: UnClipParts[Any], hole: Hole | None = None) -> torch.Tensor:
    words, noise = model.embedder.read(["a red cat", "a blue dog"], "a teddy bear"), Noise([1, 2])
    embedding, _ = model.embedder.imagine(words, noise, PriorSettings(dials=PRIOR, candidates=2), ignore)
    return model.painter.decode(
        embedding, words, noise, PaintSettings(dials=STAGES, size=Size.square(64), given=Given(hole=hole)), ignore
    )


@torch.no_grad()
def test_one_network_at_a_time_paints_the_same_picture(folder):
    everything, frugal = opened(folder), opened(folder, kept=())
    assert torch.equal(paint(frugal), paint(everything))
    assert frugal.painter.parts.loaded == ("movq",)
    assert {"text_encoder", "prior", "decoder", "movq"} <= set(everything.painter.parts.loaded)


@torch.no_grad()
def test_half_precision_paints_nearly_the_same_picture(folder):
    whole, half = paint(opened(folder)), paint(opened(folder, torch.bfloat16))
    assert half.dtype == torch.float32
    assert (whole - half).abs().mean() < 0.1


@torch.no_grad()
def test_a_decoder_that_does_not_state_its_size_paints_any_and_512_pixels_by_itself(folder, tmp_path):
    silent = _changed(folder, tmp_path, "kandinsky-2-2-decoder/unet/config.json", {"sample_size": None})
    assert Folder(silent).sizes() == (512,)
    assert Folder(silent).working_numbers("decoder") > Folder(folder).working_numbers("decoder")
    assert torch.equal(paint(opened(silent)), paint(opened(folder)))


@torch.no_grad()
def test_embeddings_of_another_clip_are_refused(folder):
    model = opened(folder)
    foreign = Embedding(vector=torch.zeros(1, oracle.SHAPE.width), space="other")
    with pytest.raises(ValueError, match="not of other"):
        model.painter.decode(
            foreign, model.embedder.read([""]), Noise([0]), PaintSettings(dials=STAGES, size=Size.square(64)), ignore
        )


@torch.no_grad()
def test_a_resampled_step_is_taken_again(folder):
    model, taken = opened(folder), []
    unknown = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    unknown[..., :32] = True
    hole = Hole(pixels=torch.zeros(1, 3, 64, 64), unknown=unknown, resample=3)
    words = model.embedder.read([""])
    embedding = Embedding(vector=torch.ones(1, oracle.SHAPE.width), space="tiny")
    model.painter.decode(
        embedding,
        words,
        Noise([1]),
        PaintSettings(dials=STAGES, size=Size.square(64), given=Given(hole=hole)),
        lambda *step: taken.append(step[:3]),
    )
    assert taken[-1] == ("decoder", 2 * 3 + 1, 2 * 3 + 1)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("kandinsky-2-2-prior/text_encoder", {"projection_dim": 7}, "the width of embeddings is 7"),
        ("kandinsky-2-2-prior/prior", {"num_embeddings": 12}, "the number of tokens is 11 in the tokenizer"),
        ("kandinsky-2-2-prior/prior", {"embedding_dim": 8}, "the width of embeddings is 8 in the prior"),
        ("kandinsky-2-2-prior/image_encoder", {"image_size": 56}, "reads 56 x 56 pixels, the image_processor makes"),
        ("kandinsky-2-2-prior/text_encoder", {"vocab_size": 10}, "larger than the text_encoder's"),
        ("kandinsky-2-2-decoder/unet", {"encoder_hid_dim": 9}, "24 in the image_encoder and 9 in the decoder"),
        ("kandinsky-2-2-decoder/unet", {"in_channels": 9}, "9 channels in and 8 out"),
        ("kandinsky-2-2-decoder-inpaint/unet", {"in_channels": 4}, "the inpaint_decoder has 4 channels in"),
    ],
)
def test_parts_of_different_models_are_refused(folder, tmp_path, part, change, words):
    broken = _changed(folder, tmp_path, f"{part}/config.json", change)
    with pytest.raises(BadFolder, match=words):
        opened(broken)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("kandinsky-2-2-decoder/unet/config.json", {"encoder_hid_dim_type": None}, "encoder_hid_dim_type"),
        ("kandinsky-2-2-decoder/movq/config.json", {"norm_type": "group"}, "norm_type"),
        ("kandinsky-2-2-decoder/scheduler/scheduler_config.json", {"timestep_spacing": "trailing"}, "timestep_spacing"),
        ("kandinsky-2-2-prior/image_processor/preprocessor_config.json", {"resample": 17}, "resample"),
    ],
)
def test_what_is_not_known_here_is_refused_by_name_and_place(folder, tmp_path, file, change, words):
    broken = _changed(folder, tmp_path, file, change)
    with pytest.raises(BadFile, match=words) as raised:
        opened(broken)
    assert raised.value.where == str((broken / file).parent)


def _changed(folder: Path, place: Path, file: str, change: dict[str, Any]) -> Path:
    broken = shutil.copytree(folder, place / "broken")
    config = json.loads((broken / file).read_text())
    (broken / file).write_text(json.dumps(config | change))
    return broken
