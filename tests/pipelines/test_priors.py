"""The kinds of prior: what each draws, that seeds decide, and what is painted without one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.errors import BadFolder, NonFinite
from dallecli.nets.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from dallecli.pipelines.drawing import allowed, drawn, mixed
from dallecli.pipelines.settings import PriorSettings
from dallecli.tasks.stages import TokenSettings

FREE = TokenSettings(temperature=1.0, top_k=0, top_p=1.0, guidance=1.0)
CONFIG = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 2,
    "embedding_dim": 16,
    "num_embeddings": 9,
    "num_codes": 6,
    "num_buckets": 12,
    "num_fits": 8,
}


def ignore(*progress: Any) -> None:
    """No progress bar."""


def write_rival(folder: Path, **changes: int) -> None:
    """Write an autoregressive prior with random weights into a folder."""
    torch.manual_seed(5)
    config = CONFIG | changes
    prior = AutoregressivePrior(AutoregressivePriorConfig.from_config(config))
    with torch.no_grad():
        for name, weight in prior.named_parameters():
            if weight.requires_grad:
                weight.normal_(std=0.2)
            elif name == "codebook.basis":
                torch.nn.init.orthogonal_(weight)
    (folder / "autoregressive_prior").mkdir()
    (folder / "autoregressive_prior" / "config.json").write_text(json.dumps(config))
    state = {name: tensor.contiguous() for name, tensor in prior.state_dict().items()}
    save_file(state, folder / "autoregressive_prior" / "diffusion_pytorch_model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def folder(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with both priors."""
    target = tmp_path_factory.mktemp("priors") / "model"
    shutil.copytree(model_folder("starter"), target)
    write_rival(target)
    return target


@pytest.fixture(scope="module")
def embedder(folder: Path, opened: Callable[..., Any]) -> Any:
    return opened(folder, torch.float64).embedder


def imagine(embedder: Any, prompts: list[str], seeds: list[int], dials: Any = FREE, **more: Any) -> Tensor:
    settings = PriorSettings(dials=dials, candidates=more.pop("candidates", 1), **more)
    embedding, _ = embedder.imagine(embedder.read(prompts), Noise(seeds), settings, ignore)
    vector: Tensor = embedding.vector
    return vector


def test_a_seed_has_its_embedding_whatever_is_drawn_beside_it(embedder: Any) -> None:
    together = imagine(embedder, ["a red cat", "a dog", "a dog"], [3, 4, 5])
    alone = [imagine(embedder, [prompt], [seed]) for prompt, seed in (("a red cat", 3), ("a dog", 4), ("a dog", 5))]
    # batches may change the order of sums; a code that tips over by that would be a bucket away
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
    assert not torch.allclose(together[1], together[2])


def test_more_candidates_keep_the_first_unless_another_fits_better(embedder: Any) -> None:
    words = embedder.read(["a red cat"])
    fits = []
    for candidates in (1, 2, 8):
        _, fit = embedder.imagine(words, Noise([7]), PriorSettings(dials=FREE, candidates=candidates), ignore)
        fits.append(fit.item())
    assert fits == sorted(fits) and fits[0] < fits[-1]


def test_guidance_one_reads_no_empty_caption_and_zero_nothing_else(embedder: Any) -> None:
    def guided(scale: float, prompt: str) -> Tensor:
        return imagine(embedder, [prompt], [1], TokenSettings(temperature=1.0, top_k=0, top_p=1.0, guidance=scale))

    assert torch.allclose(guided(0.0, "a red cat"), guided(0.0, "a dog"))
    assert not torch.allclose(guided(1.0, "a red cat"), guided(1.0, "a dog"))
    assert not torch.allclose(guided(3.0, "a red cat"), guided(1.0, "a red cat"))


def test_the_likeliest_codes_alone_leave_only_fit_and_place_to_the_seed(embedder: Any) -> None:
    dials = TokenSettings(temperature=0.0, top_k=0, top_p=1.0, guidance=1.0)
    one = TokenSettings(temperature=1.0, top_k=1, top_p=1.0, guidance=1.0)
    assert torch.equal(imagine(embedder, ["a dog"], [3], dials), imagine(embedder, ["a dog"], [3], one))


def test_progress_goes_code_by_code(embedder: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    words, settings = embedder.read(["a dog"]), PriorSettings(dials=FREE, candidates=1)
    embedder.imagine(words, Noise([1]), settings, lambda *step: seen.append(step))
    assert seen == [("autoregressive_prior", place, 6) for place in range(1, 7)]


def test_without_a_prior_the_text_embedding_is_as_long_as_pictures_are(embedder: Any, folder: Path) -> None:
    words = embedder.read(["a red cat", "a dog"])
    meaning = embedder.meaning(words).vector
    vector = imagine(embedder, ["a red cat", "a dog"], [1, 2], None)
    weights = load_file(folder / "prior" / "diffusion_pytorch_model.safetensors")
    length = (weights["clip_mean"].double().square() + weights["clip_std"].double().square()).sum().sqrt()
    assert torch.allclose(torch.cosine_similarity(vector, meaning), torch.ones(2, dtype=vector.dtype))
    assert torch.allclose(vector.norm(dim=1), length.to(vector).expand(2))
    assert torch.equal(vector, imagine(embedder, ["a red cat", "a dog"], [8, 9], None))


@pytest.mark.parametrize(("change", "what"), [({"embedding_dim": 20}, "width"), ({"num_embeddings": 8}, "tokens")])
def test_a_prior_of_another_model_is_refused(
    model_folder: Callable[[str], Path], opened: Callable[..., Any], tmp_path: Path, change: dict[str, int], what: str
) -> None:
    shutil.copytree(model_folder("starter"), tmp_path / "model")
    write_rival(tmp_path / "model", **change)
    with pytest.raises(BadFolder, match=what):
        opened(tmp_path / "model")


def test_numbers_that_are_not_finite_are_named(folder: Path, opened: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / "autoregressive_prior" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["to_normal.bias"][0] = 1e30  # whose square no float32 holds
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(NonFinite, match="autoregressive prior"):
        imagine(opened(tmp_path / "model").embedder, ["a dog"], [1])


# Drawing


def test_tokens_are_drawn_as_often_as_their_shares_say() -> None:
    shares = torch.tensor([0.5, 0.0, 0.2, 0.3])
    chances = (torch.arange(10_000) + 0.5) / 10_000
    counts = drawn(shares.expand(10_000, -1), chances).bincount(minlength=4)
    assert counts.tolist() == [5000, 0, 2000, 3000]


def test_a_chance_beyond_all_sums_draws_the_last_token_that_may_be_drawn() -> None:
    shares = torch.tensor([[0.3, 0.3, 0.0]])
    assert drawn(shares, torch.tensor([1.0])).tolist() == [1]
    assert drawn(shares, torch.tensor([0.0])).tolist() == [0]
    assert drawn(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0.0])).tolist() == [1]


def test_dials_leave_the_tokens_that_they_say() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()

    def left(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> list[float]:
        shares = allowed(logits, TokenSettings(temperature=temperature, top_k=top_k, top_p=top_p, guidance=1.0))
        return [round(share, 4) for share in (shares / shares.sum()).flatten().tolist()]

    assert left() == [0.1, 0.4, 0.2, 0.3]
    assert left(top_k=2) == [0.0, 0.5714, 0.0, 0.4286]
    assert left(top_p=0.5) == [0.0, 0.5714, 0.0, 0.4286]
    assert left(top_p=0.4) == [0.0, 1.0, 0.0, 0.0]
    assert left(top_k=9) == left()
    assert left(temperature=0.5) == [round(x / 0.3, 4) for x in (0.01, 0.16, 0.04, 0.09)]
    assert left(temperature=0.0) == [0.0, 1.0, 0.0, 0.0]


def test_guidance_moves_logits_away_from_those_without_words() -> None:
    without, within = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    assert mixed(without, within, 3.0).tolist() == [[4.0, -4.0]]
    assert torch.equal(mixed(without, within, 1.0), within)
