"""Embeddings as files: exact, small, and never of another CLIP without a word."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from dallecli.embedding_arithmetic import combine, cosines
from dallecli.embedding_file import Embedded, read_embedding
from dallecli.errors import BadEmbedding
from dallecli.source import Source


def _embedded(*numbers: float, **changes: object) -> Embedded:
    vector = np.array(numbers, np.float32)
    made = Embedded(vector=vector, kind="image", space="clip-1", name="fox.png", model="starter")
    return replace(made, **changes)  # type: ignore[arg-type]


def _source(data: bytes) -> Source:
    return Source(kind="embedding", name="z.safetensors", sha256="0", data=data)


def test_what_is_written_is_read_to_the_last_bit():
    noise = {"decoder": np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)}
    made = _embedded(0.1, -2.5, 1e-30, noise=noise, name="Bär\udcff.png", kind="text")
    read = read_embedding(_source(made.encode()))
    assert read.vector.tobytes() == made.vector.tobytes()
    assert read.noise["decoder"].tobytes() == noise["decoder"].tobytes()
    assert (read.kind, read.space, read.name, read.model) == ("text", "clip-1", "Bär?.png", "starter")


def test_the_same_embedding_is_the_same_bytes_each_time():
    noise = {stage: np.ones((3, 2, 2), np.float32) for stage in ("upsampler", "decoder", "upsampler_2")}
    made = [_embedded(1, 2, 3, noise=noise, name="Bär 森\udcff").encode() for _ in range(40)]
    assert len(set(made)) == 1
    assert int.from_bytes(made[0][:8], "little") % 8 == 0  # so that the numbers are aligned for whoever maps the file
    assert list(metadata_of(made[0])) == ["format", "kind", "space", "name", "model"]


def metadata_of(data: bytes) -> dict[str, str]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header["__metadata__"]


def test_an_embedding_is_a_small_file():
    assert len(_embedded(*range(768)).encode()) < 4 * 768 + 400


FACTS = {"format": "dalle-embedding/1", "kind": "image", "space": "c", "name": "n", "model": "m"}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (_embedded(1, 2).encode()[:-1], "damaged"),
        (struct.pack("<Q", 2) + b"{}", "holds no embedding"),
        (save({"z": np.ones(3, np.float32)}), "holds no embedding"),
        (save({"y": np.ones(3, np.float32)}, FACTS), "not an embedding file as dalle writes it"),
        (save({"z": np.ones((1, 3), np.float32)}, FACTS), "not an embedding file as dalle writes it"),
        (save({"z": np.ones(3, np.float32), "w": np.ones(3)}, FACTS), "not an embedding file as dalle writes it"),
        (save({"z": np.ones(3, np.float32)}, {**FACTS, "kind": "sound"}), "not an embedding file as dalle writes it"),
        (save({"z": np.ones(3, np.float64)}, FACTS), "holds NaN, infinity"),
        (save({"z": np.array([1, np.nan], np.float32)}, FACTS), "holds NaN, infinity"),
        (save({"z": np.zeros(3, np.float32)}, FACTS), "all zeros"),
    ],
)
def test_what_is_no_embedding_is_refused(data, what):
    with pytest.raises(BadEmbedding, match=what):
        read_embedding(_source(data))


def test_arithmetic_adds_directions_and_keeps_the_length():
    # Unit vectors along the axes: x - y + z is (1, -1, 1) / sqrt(3), whatever the lengths of y and z are.
    x, y, z = _embedded(3, 0, 0), _embedded(0, 50, 0, name="a fox"), _embedded(0, 0, 0.01, name="a cat")
    found = combine(x, minus=[y], plus=[z])
    assert found.vector == pytest.approx(np.array([3, -3, 3]) / np.sqrt(3), rel=1e-6)
    assert found.name == "fox.png - a fox + a cat"


def test_arithmetic_takes_back_what_it_gave():
    x, y = _embedded(1, 2, 3), _embedded(-1, 0, 5)
    assert combine(x, minus=[y], plus=[y]).vector == pytest.approx(x.vector, rel=1e-6)
    assert combine(x, minus=[], plus=[]).vector == pytest.approx(x.vector, rel=1e-6)


def test_nothing_of_nothing_is_no_embedding():
    x = _embedded(1, 2, 3)
    with pytest.raises(BadEmbedding, match="nothing is left"):
        combine(x, minus=[_embedded(2, 4, 6)], plus=[])


def test_cosines_do_not_depend_on_lengths():
    found = cosines([_embedded(1, 0), _embedded(0, 9)], [_embedded(5, 5), _embedded(-2, 0), _embedded(0, 1)])
    assert found == pytest.approx(np.array([[0.5**0.5, -1, 0], [0.5**0.5, 0, 1]]), abs=1e-12)


def test_two_clips_do_not_mix():
    here, there = _embedded(1, 0), _embedded(1, 0, space="clip-2", model="karlo")
    for mix in (lambda: combine(here, [], [there]), lambda: cosines([here], [there])):
        with pytest.raises(BadEmbedding) as caught:
            mix()
        assert caught.value.what == "this embedding lives in the space of clip-2, not of clip-1"
        assert caught.value.hint == "it was made with --model karlo"
