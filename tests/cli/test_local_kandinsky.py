"""Every command on a tiny random Kandinsky: none of them knows that it is no Karlo."""

import json
import shutil
from pathlib import Path

import kandinsky_oracle
import pytest
from hub import Hub
from PIL import Image
from pipelines.test_priors import write_rival

from dallecli.pictures.metadata import read_recipe
from dallecli.weights.registry import registry

from .conftest import Dalle

pytestmark = pytest.mark.usefixtures("local")

FAST = ("--steps", "2", "--device", "cpu", "--dtype", "fp32")
PRIOR = ("--prior-steps", "2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(kandinsky_oracle.write(tmp_path_factory.mktemp("models") / "tiny"))


EVERYTHING = {
    "over": ["generate", "a cat", "--init", "cat.png", "--strength", "0.6", "--negative", "a dog", *PRIOR],
    "generate": ["generate", "a cat", "-n", "2", "--best-of", "2", *PRIOR, "--size", "50"],
    "vary": ["vary", "cat.png", "--fidelity", "0.5", "--inversion-steps", "2"],
    "interpolate": ["interpolate", "cat.png", "a dog", "dog.png", "--weights", "1,2,1", *PRIOR],
    "inpaint": ["inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a dog", *PRIOR],
    "edit": ["edit", "cat.png", "--from", "a cat", "--to", "a dog", "--inversion-steps", "2"],
}


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.long
def test_every_task_is_painted_and_made_again_byte_for_byte(dalle: Dalle, model: str, name: str):
    made = dalle(*EVERYTHING[name], *FAST, "-m", model, "-s", "7", "-q", "--layout", "files")
    assert (made.code, made.remarks) == (0, "")
    again = dalle("replay", made.lines[-1], "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.remarks) == (0, "")
    with Image.open(made.lines[-1]) as first, Image.open("again.png") as second:
        assert first.size == {"generate": (50, 50), "inpaint": (64, 48)}.get(name, (64, 64))
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("prior", ["autoregressive", "none"])
@pytest.mark.long
def test_the_other_priors_paint_and_avoid(dalle: Dalle, model: str, tmp_path: Path, prior: str):
    rival = shutil.copytree(model, tmp_path / "model")
    sizes = json.loads((rival / "kandinsky-2-2-prior" / "prior" / "config.json").read_text())
    write_rival(rival, embedding_dim=sizes["embedding_dim"], num_embeddings=sizes["num_embeddings"])
    ask = ("generate", "a cat", "--prior", prior, *FAST, "-m", str(rival), "-s", "7", "-q", "-o")
    assert dalle(*ask, "plain.png").code == 0
    assert dalle(*ask, "away.png", "--negative", "a dog").code == 0
    assert dalle("replay", "away.png", "-m", str(rival), "-o", "again.png", "-q").code == 0
    plain, away, again = (Image.open(f"{name}.png").tobytes() for name in ("plain", "away", "again"))
    assert plain != away == again


@pytest.mark.long
def test_what_is_to_be_avoided_changes_the_picture(dalle: Dalle, model: str):
    ask = ("generate", "a cat", *FAST, *PRIOR, "-m", model, "-s", "7", "-o")
    assert dalle(*ask, "plain.png", "--no-metadata").code == 0
    assert dalle(*ask, "away.png", "--no-metadata", "--negative", "a dog").code == 0
    assert Path("plain.png").read_bytes() != Path("away.png").read_bytes()


def test_words_that_nobody_would_read_are_refused(dalle: Dalle, model: str):
    refused = dalle("vary", "cat.png", "--prompt", "a dog", "-m", model)
    assert (refused.code, "reads no words" in refused.err) == (2, True)


def test_embeddings_with_their_noise_are_painted_and_pictures_ranked(dalle: Dalle, model: str):
    assert (
        dalle("embed", "cat.png", "--invert", "--inversion-steps", "2", "-o", "cat.safetensors", "-m", model).code == 0
    )
    painted = dalle("vary", "cat.safetensors", "--fidelity", "1", "--inversion-steps", "2", "-o", "x.png", "-m", model)
    assert painted.code == 0
    other = dalle("vary", "cat.safetensors", "--fidelity", "1", "--size", "100", "-m", model)
    assert (other.code, "noise for 64 pixels only" in other.err) == (2, True)
    assert len(dalle("rank", "x.png", "a fish", "a red apple", "--json", "-m", model).objects) == 2


def test_inpainting_takes_each_step_once_because_its_net_was_made_for_it(dalle: Dalle, model: str):
    dalle(*EVERYTHING["inpaint"], *FAST, "-m", model, "-o", "x.png")
    assert read_recipe(Path("x.png")).settings.resample == 1


def test_without_a_repository_its_tasks_are_missing_and_the_rest_works(dalle: Dalle, model: str, tmp_path: Path):
    part = shutil.copytree(model, tmp_path / "part", ignore=shutil.ignore_patterns("*-inpaint"))
    refused = dalle("inpaint", "cat.png", "--mask", "4,4,30,30", "-m", str(part))
    assert refused.code == 2
    assert "it can generate, vary, interpolate, edit" in refused.err
    refused = dalle("generate", "a cat", "-m", str(part / "kandinsky-2-2-decoder"))
    assert (refused.code, "give the folder that holds them all" in refused.err) == (3, True)
    shutil.rmtree(part / "kandinsky-2-2-decoder")
    refused = dalle("generate", "a cat", "-m", str(part))
    assert (refused.code, "paints nothing without" in refused.err) == (3, True)


def test_a_size_beyond_all_training_is_refused(dalle: Dalle, model: str):
    refused = dalle("generate", "a cat", "--size", "2049", "-m", model)
    assert (refused.code, "up to 2048" in refused.err) == (2, True)


@pytest.mark.long
def test_it_is_pulled_by_name_for_what_it_is_needed_for(dalle: Dalle, model: str, hub: Hub):
    for part in registry()["kandinsky"].parts:
        assert part.commit is not None
        hub.add(part.repository, Path(model) / part.folder)
        hub.pin(part.repository, part.commit)
    assert dalle("models", "pull", "kandinsky", "--for", "generate", "-q").code == 0
    assert not any("decoder-inpaint" in request.path for request in hub.requests)
    ask = (*FAST, *PRIOR, "-m", "kandinsky", "-q")
    assert dalle("generate", "a cat", *ask, "-o", "x.png").code == 0
    hole = ("inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a dog")
    assert dalle(*hole, *ask, "-o", "y.png").code == 2
    assert dalle("models", "pull", "kandinsky", "-q").code == 0
    assert dalle(*hole, *ask, "-o", "y.png").code == 0
