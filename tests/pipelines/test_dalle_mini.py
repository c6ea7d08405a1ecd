"""DALL·E Mini against its formulas: codes one by one, pixels, and each place where its ports went astray."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dalle_mini_oracle as oracle
import numpy as np
import pytest
import torch
import vqgan_oracle
from dalle_mini_oracle import CELL, CODES, END, SIDE, START, Reference, tables, text_ids
from PIL import Image

from dallecli.errors import BadFolder
from dallecli.nets.dalle_bart import DalleBartConfig
from dallecli.pictures.reading import read_picture
from dallecli.pipelines.dalle_mini import DalleMini
from dallecli.source import read_source
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.builder import build_request
from dallecli.tokens import BartTokenizer
from dallecli.weights.dalle_mini import convert_dalle_mini
from dallecli.weights.registry import registry

CAT = "cat cat cat"
DIALS = {"guidance": 3.0, "temperature": 1.5, "top_k": 7}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle.make(tmp_path_factory.mktemp("models") / "mini")


@pytest.fixture(scope="module")
def mega(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle.make(tmp_path_factory.mktemp("models") / "mega", spare=6)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The codes of every picture that is painted meanwhile."""
    found: list[list[int]] = []
    pixels = DalleMini.pixels

    def spy(self: DalleMini, codes: torch.Tensor) -> object:
        found.extend(codes.flatten(1).tolist())
        return pixels(self, codes)

    monkeypatch.setattr(DalleMini, "pixels", spy)
    yield found


def paint(folder: Path, prompt: str = CAT, batch: int | None = None, **asked: object) -> list[np.ndarray]:
    engine = LocalEngine(batch=batch)
    values = {"prompt": prompt, "seed": 3, **DIALS, **asked}
    recipe = engine.resolve(build_request("generate", values, {"model": str(folder), "device": "cpu", "dtype": "fp32"}))
    return [np.asarray(picture.image) for picture in engine.paint(recipe, lambda step: None)]


@pytest.mark.parametrize(
    ("asked", "reference"),
    [
        ({"guidance": 1.0, "temperature": 1.0, "top_k": 0}, {"guidance": 1.0, "temperature": 1.0, "top_k": 0}),
        ({}, DIALS),
        (
            {"negative": "a cat"},
            {**DIALS, "without": [START, *(oracle.VOCABULARY.index(w) for w in ("Ġa", "Ġcat")), END]},
        ),
    ],
    ids=["free", "guided", "negative"],
)
def test_codes_are_those_of_an_uncached_loop_that_draws_as_min_dalle_does(mini, written, asked, reference):
    paint(mini, **asked)
    assert written == [Reference(tables()).codes(text_ids(3), 3, **reference)]


def test_picture_k_is_that_of_seed_plus_k_whatever_it_is_painted_with(mini, written):
    together = paint(mini, n=3, batch=3)
    in_turns = paint(mini, n=3, batch=2)
    alone = [paint(mini, seed=3 + k)[0] for k in range(3)]
    assert written[:3] == written[3:6] == written[6:]
    assert [Reference(tables()).codes(text_ids(3), 3 + k, **DIALS) for k in range(3)] == written[:3]
    for k in range(3):
        assert np.array_equal(together[k], in_turns[k])
        assert np.array_equal(together[k], alone[k])


def test_pixels_are_levels_of_the_vqgan_within_one_of_255(mini, written):
    (picture,) = paint(mini)
    codes = torch.tensor(written[0]).view(1, SIDE, SIDE)
    levels = vqgan_oracle.picture_of(codes, vqgan_oracle.table(), symmetric=False)
    assert picture.shape == (SIDE * CELL, SIDE * CELL, 3)
    # The originals cut off what is behind the point; here it is rounded.
    assert np.abs(picture - np.floor(levels)).max() <= 1
    assert np.abs(picture - levels).max() < 0.51


def test_the_first_code_follows_the_start_token_of_the_config(mini, written, tmp_path):
    config = json.loads((mini / "decoder" / "config.json").read_text())
    assert config["decoder_start_token_id"] == CODES
    other = Path(shutil.copytree(mini, tmp_path / "other"))
    (other / "decoder" / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": CODES - 1}))
    paint(other)
    paint(mini)
    assert written[0] == Reference(tables()).codes(text_ids(3), 3, start=CODES - 1, **DIALS)
    assert written[0] != written[1]


def test_ids_beyond_the_codebook_are_never_written(mega, written):
    paint(mega, n=4, batch=4, temperature=100.0, top_k=0, guidance=1.0)
    halves = tables(spare=6)
    halves["decoder"]["lm_head.weight"] = halves["decoder"]["lm_head.weight"][:CODES]
    assert written[0] == Reference(halves).codes(text_ids(3), 3, temperature=100.0)
    assert max(max(codes) for codes in written) < CODES


def test_a_long_prompt_keeps_its_end_token_and_says_what_was_cut(mini, written):
    tokenizer = BartTokenizer.open(mini / "tokenizer")
    tokens = tokenizer.encode("cat " * 62 + "Ünder a cat")
    assert (len(tokens.ids), tokens.ids[-1], tokens.dropped) == (64, END, "Ünder a cat")
    assert tokenizer.encode("").ids[:3] == [START, END, oracle.PAD]
    paint(mini, "cat " * 70)
    assert written == [Reference(tables()).codes(text_ids(62), 3, **DIALS)]


@pytest.mark.parametrize(
    ("typed", "read"), [("A  CÁT\tcat", "a cat cat"), ("cat 猫", "cat"), ("🦊", ""), (" ", ""), ("<s> a", "<s> a")]
)
def test_a_prompt_is_read_in_small_ascii_letters_with_single_spaces(mini, typed, read):
    tokenizer = BartTokenizer.open(mini / "tokenizer")
    assert tokenizer.encode(typed).ids == tokenizer.encode(read).ids
    assert START not in tokenizer.encode(typed).ids[1:]


def test_published_dials_are_min_dalles_and_configs_may_name_tokens_that_are_never_read():
    for name in ("dalle-mini", "dalle-mega"):
        dials = registry()[name].stages["codes"]
        assert (dials.temperature, dials.top_k, dials.guidance) == (1.0, 256, 16.0)
    assert DalleBartConfig.from_config({"bos_token_id": 16385, "pad_token_id": 16385}).decoder_start_token_id == 16384


def test_a_picture_goes_on_from_the_upper_rows_of_another_with_flaxs_encoder(mini, written, tmp_path):
    source = tmp_path / "published"
    source.mkdir()
    oracle.write_words(source)
    (source / "flax_model.msgpack").write_bytes(oracle.msgpack(oracle.flax_arrays(tables())))
    (source / "vqgan").mkdir()
    (source / "vqgan" / "flax_model.msgpack").write_bytes(oracle.msgpack(oracle.flax_vqgan()))
    convert_dalle_mini(source, tmp_path / "both")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "p.png")
    given = read_source(str(tmp_path / "p.png"))
    paint(tmp_path / "both", **{"continue": given, "rows": 2})
    codes = vqgan_oracle.codes_of(read_picture(given).image, 8, vqgan_oracle.table(), symmetric=False)
    known = codes.flatten()[: 2 * SIDE].tolist()
    assert written == [Reference(tables()).codes(text_ids(3), 3, known=known, **DIALS)]


def test_networks_in_half_precision_leave_the_vqgan_in_float32(mini):
    engine = LocalEngine(memory="high")
    recipe = engine.resolve(build_request("generate", {"prompt": "a", "dtype": "bf16"}, {"model": str(mini)}))
    list(engine.paint(recipe, lambda step: None))
    pipeline = engine._last._opened.pipeline  # type: ignore[union-attr]
    assert dict(pipeline.parts._nets.keys()) == {
        "text_encoder": torch.bfloat16, "decoder": torch.bfloat16, "vqgan": torch.float32,
    }  # fmt: skip


def changed(folder: Path, part: str, **fields: object) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize(
    ("part", "fields", "said"),
    [
        ("vqgan", {"num_vq_embeddings": 99}, "the codebook has 99 codes, and the decoder writes 24"),
        ("text_encoder", {"d_model": 64}, "the width of states is 64"),
        ("tokenizer", None, "the number of tokens is 9"),
        ("decoder", {"image_length": 25}, "the side of a picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parts_of_two_models_are_refused_before_weights_are_read(mini, tmp_path, part, fields, said):
    folder = Path(shutil.copytree(mini, tmp_path / "model"))
    if fields is None:
        (folder / "tokenizer" / "tokenizer_config.json").write_text('{"model_max_length": 9}')
    else:
        changed(folder, part, **fields)
    with pytest.raises(BadFolder, match=said):
        paint(folder)
