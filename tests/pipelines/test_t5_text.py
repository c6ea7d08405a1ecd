"""Prompts as DeepFloyd IF reads them: against the published tower, and each read once, whatever the memory plan."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import t5_oracle
import torch

from dallecli.captions import clean_caption
from dallecli.errors import BadFolder
from dallecli.pipelines import t5_text
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.t5_text import T5Text, check_tokens
from dallecli.tokens import T5Tokenizer
from dallecli.weights.layouts import LAYOUTS

# Both sides compute in float32 with the same operations: what is left is rounding, about 1e-7 a layer.
TOLERANCE = 1e-5
PROMPTS = ["a photo of the corgi", "", "A <b>Red</b>  bicycle!!", "umbrella " * 99]


class TextFolder:
    """What the text tower needs of a model's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.family = replace(LAYOUTS["glide"], single={"text_encoder": ".wo.weight"})

    def path_of(self, part: str) -> Path:
        return self.path / part

    def config(self, part: str) -> Any:
        return json.loads((self.path / part / "config.json").read_text())

    def weights_file(self, part: str) -> Path:
        return self.path / part / "model.safetensors"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("if")
    t5_oracle.text_encoder().save_pretrained(path / "text_encoder")
    t5_oracle.write_sentencepiece(path / "tokenizer" / "spiece.model")
    return path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files from which networks were loaded."""
    import dallecli.pipelines.parts as parts_module

    found: list[Path] = []
    load = parts_module.open_net

    def noted(build: Any, file: Path, *others: Any) -> Any:
        found.append(file)
        return load(build, file, *others)

    monkeypatch.setattr(parts_module, "open_net", noted)
    return iter([found])


def opened(path: Path, dtype: torch.dtype = torch.float32) -> T5Text:
    """A tower that no plan keeps."""
    parts = Parts(TextFolder(path), torch.device("cpu"), dtype, kept=())  # type: ignore[arg-type]
    return T5Text(parts, T5Tokenizer.open(path / "tokenizer"))


def leave(text: T5Text) -> None:
    """Let the tower go, as another network that is loaded does."""
    text.parts._release()
    assert text.parts.loaded == ()


@torch.no_grad()
def test_states_are_those_of_the_published_tower(path):
    theirs, tokenizer = t5_oracle.text_encoder(), t5_oracle.tokenizer()
    texts = [clean_caption(prompt) for prompt in PROMPTS]
    tokens = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    truth = theirs(tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
    states = opened(path).read(PROMPTS)
    assert states.shape == (4, 77, 32) and states.dtype == torch.float32
    assert float((states - truth).abs().max() / truth.abs().max()) < TOLERANCE


def test_a_prompt_has_the_same_states_to_the_bit_whatever_it_is_read_with(path):
    together = opened(path).read(PROMPTS)
    for prompt, states in zip(PROMPTS, together, strict=True):
        assert torch.equal(opened(path).read([prompt])[0], states)


def test_what_was_read_is_not_read_again_though_the_tower_has_left(path, loads):
    found, text = next(loads), opened(path)
    first = text.read(["", "a photo"])
    leave(text)
    assert torch.equal(text.read(["a  photo", "", "A Photo"]), first[[1, 0, 1]])
    assert len(found) == 1
    text.read(["a bicycle"])
    assert len(found) == 2


def test_what_is_expected_is_read_with_the_first_prompt(path, loads):
    found, text = next(loads), opened(path)
    text.expect([f"photo {number}" for number in range(20)])
    assert found == []
    for number in range(20):
        text.read(["", f"photo {number}"])
        if text.parts.loaded:
            leave(text)
    assert len(found) == 1


def test_of_what_is_expected_as_much_is_read_as_there_is_room_for(path, loads, monkeypatch):
    prompts = [f"photo {number}" for number in range(12)]
    wanted = opened(path).read(prompts)
    monkeypatch.setattr(t5_text, "KEPT_BYTES", 6 * 4 * 77 * 32)
    found, text = next(loads), opened(path)
    found.clear()
    text.expect(prompts)
    for prompt, states in zip(prompts, wanted, strict=True):
        assert torch.equal(text.read(["", prompt])[1], states)
        assert len(text._known) <= 6
        if text.parts.loaded:
            leave(text)
    assert len(found) == 3  # the empty prompt stays, and there is room for five: 12 prompts are 5, 5 and 2
    monkeypatch.setattr(t5_text, "KEPT_BYTES", 1)
    assert torch.equal(opened(path).read(prompts), wanted)


def test_a_tower_in_bfloat16_gives_states_in_float32(path):
    states = opened(path, torch.bfloat16).read(PROMPTS[:1])
    assert states.dtype == torch.float32 and states.isfinite().all()


def test_a_vocabulary_larger_than_the_towers_is_refused(path):
    parts = opened(path).parts
    tokenizer = SimpleNamespace(encoder=SimpleNamespace(get_vocab_size=lambda: 10**4))
    with pytest.raises(BadFolder, match="vocabulary is larger"):
        check_tokens(parts, tokenizer)  # type: ignore[arg-type]
    check_tokens(parts, T5Tokenizer.open(path / "tokenizer"))
