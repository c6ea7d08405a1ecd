"""minDALL-E against its formulas: tokens, logits, codes one by one, and pixels."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import mindalle_oracle as oracle
import numpy as np
import pytest
import torch
import vqgan_oracle
from PIL import Image

from dallecli.errors import BadFolder, BadSetting, TaskNotSupported
from dallecli.nets.gpt import Gpt, GptConfig
from dallecli.pipelines.token_stream import TokenStream
from dallecli.source import read_source
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.builder import build_request
from dallecli.tokens import CharTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.mindalle import config_of

PROMPT = "The cat, the dog"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle.make(tmp_path_factory.mktemp("models") / "tiny")


def files_of(model: Path) -> Path:
    return model.with_name("tiny-files")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The codes of every picture that is painted meanwhile."""
    found: list[list[int]] = []
    pixels = TokenStream.pixels

    def spy(self: TokenStream, codes: torch.Tensor) -> object:
        found.extend(codes.flatten(1).tolist())
        return pixels(self, codes)

    monkeypatch.setattr(TokenStream, "pixels", spy)
    yield found


def paint(folder: Path, prompt: str = PROMPT, batch: int | None = None, **asked: object) -> list[np.ndarray]:  # type: ignore[type-arg]
    engine, placed = LocalEngine(batch=batch), {"model": str(folder), "device": "cpu", "dtype": "fp32"}
    recipe = engine.resolve(build_request("generate", {"prompt": prompt, "seed": 3, **asked}, placed))
    return [np.asarray(picture.image) for picture in engine.paint(recipe, lambda step: None)]


@torch.inference_mode()
def test_logits_are_those_of_the_formulas() -> None:
    table = oracle.table()
    net = Gpt(GptConfig.from_config(config_of({name: tuple(t.shape) for name, t in table.items()}, {}))).eval()
    net.load_state_dict(table, strict=True)
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(len(oracle.VOCABULARY), (oracle.TEXT,), generator=generator)
    codes = torch.randint(oracle.CODES, (oracle.SIDE**2,), generator=generator)
    reference = oracle.Reference(table)
    logits, cache = net.read(text[None])
    for place in range(oracle.SIDE**2):
        wanted = reference.logits(text.tolist(), codes[:place].tolist())
        # float32 against float64
        assert (logits[0] - wanted).abs().max() <= 1e-4 * wanted.abs().max(), place
        logits = net.write(codes[place : place + 1], place, cache)


DIALS: list[dict[str, float]] = [
    {},  # which is 1, 256 and 1
    {"temperature": 0.7, "top_k": 9},
    {"temperature": 1.6, "top_k": 0, "top_p": 0.8},
]


@pytest.mark.parametrize("dials", DIALS)
def test_codes_are_those_that_are_written_without_a_cache(
    model: Path, written: list[list[int]], dials: dict[str, float]
) -> None:
    paint(model, **dials)
    text = oracle.text_ids(files_of(model), PROMPT)
    assert written == [oracle.written(text, 3, **dials)]  # type: ignore[arg-type]


def test_pixels_are_those_of_the_codes_from_minus_one_to_one(model: Path, written: list[list[int]]) -> None:
    (found,) = paint(model)
    codes = torch.tensor(written).view(1, oracle.SIDE, oracle.SIDE)
    wanted = vqgan_oracle.picture_of(codes, vqgan_oracle.table(), symmetric=True)
    # rounded: half a level from the unrounded
    assert np.abs(found - wanted).max() <= 0.501


def test_a_picture_does_not_depend_on_its_neighbours(model: Path) -> None:
    together, apart = paint(model, n=3), [paint(model, seed=seed)[0] for seed in (3, 4, 5)]
    pieces = paint(model, batch=2, n=3)
    assert all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(together, apart, pieces, strict=True))


def test_the_upper_rows_of_a_picture_are_kept(model: Path, written: list[list[int]], tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image.save(tmp_path / "x.png")
    paint(model, **{"continue": read_source(str(tmp_path / "x.png")), "rows": 2, "top_k": 0})
    known = vqgan_oracle.codes_of(image, 8, vqgan_oracle.table(), symmetric=True).flatten().tolist()[:8]
    assert written == [oracle.written(oracle.text_ids(files_of(model), PROMPT), 3, known=known)]


REFUSED = [
    ({"guidance": 2.0}, BadSetting, "the guidance is 2, and tiny was never trained without words"),
    ({"negative": "a dog"}, BadSetting, "tiny can't be led away from words"),
    ({"steps": 20}, BadSetting, "tiny, which writes codes, has no steps"),
    ({"best_of": 3}, TaskNotSupported, "tiny has no CLIP"),
]


@pytest.mark.parametrize(("asked", "error", "words"), REFUSED)
def test_dials_that_it_does_not_have_are_refused_by_name(
    model: Path, asked: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        paint(model, **asked)


# The tokenizer.

TEXTS = [
    "", "a cat", "The CAT, the dog!", "  cat\tdog\n", "café", "CAFÉ à la 猫猫", "cat's", "Ω cat", "[PAD] cat [UNK]",
    "cat " * 20, "x\u0000y\u200b z", "dog．cat", "①", "ﬁ",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_the_published_tokenizer(model: Path, text: str) -> None:
    tokens = CharTokenizer.open(model / "tokenizer").encode(text)
    assert tokens.ids == oracle.text_ids(files_of(model), text)
    assert len(tokens.mask) == oracle.TEXT


def test_what_is_cut_off_and_what_cannot_be_read_is_said(model: Path) -> None:
    tokenizer = CharTokenizer.open(model / "tokenizer")
    assert tokenizer.encode("Cat " * 11 + "dogs the cat").dropped == "dogs the cat"
    assert tokenizer.encode("Cat " * 12).dropped == ""
    assert tokenizer.unreadable("Ω cat ΩΩ dog") == ["Ω", "ΩΩ"]


def test_parts_of_two_models_are_refused(model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    config = other / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text().replace("12", "13"))
    with pytest.raises(BadFolder, match="number of tokens is 13 in the tokenizer and 12 in the decoder"):
        paint(other)
    assert Folder(model).sizes() == (oracle.SIDE * oracle.CELL,)
