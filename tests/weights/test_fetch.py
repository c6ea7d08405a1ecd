"""Pulling from a Hub that misbehaves: what is wrong is never used, and what has arrived is never asked for again."""

import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub import Hub, git_blob
from huggingface_hub import constants, save_torch_state_dict
from safetensors.torch import load_file, save_file

from dallecli.errors import (
    BadFile,
    BadFolder,
    DalleError,
    DiskFull,
    NetworkError,
    NotDownloaded,
    RequestError,
    TaskNotSupported,
    UnknownModel,
)
from dallecli.version import __version__
from dallecli.weights.fetch import plan
from dallecli.weights.fetch.cache import PART, WRONG
from dallecli.weights.fetch.made import Pulled
from dallecli.weights.fetch.plan import Plan
from dallecli.weights.fetch.progress import Transfer
from dallecli.weights.fetch.pull import pull
from dallecli.weights.fetch.remove import remove
from dallecli.weights.fetch.verify import verify
from dallecli.weights.hub import Patience
from dallecli.weights.lock import cached, folder_path, lock_path, read_lock, repository_cache
from dallecli.weights.registry import find, locate, registry
from weights.model_folder import write_json, write_model

NAME = "hf:org/name"
LARGE = 400_000
BIG = "decoder/diffusion_pytorch_model.safetensors"

HASTY = Patience(tries=3, unit=0.0)


def large_tensor(seed: int, size: int = LARGE) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(size // 4, generator=generator)}


def write_large(folder: Path) -> Path:
    """A model whose decoder and prior are large enough to be in LFS."""
    write_model(folder)
    save_file(large_tensor(1), folder / BIG)
    save_file(large_tensor(2, 20_000), folder / "prior" / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_large(tmp_path / "source")


def fetch_it(name: str = NAME, **settings: Any) -> Pulled:
    settings = {"agree": lambda _: None, "report": lambda _: None, "patience": HASTY, **settings}
    return pull(name, **settings)


def published_bytes(source: Path) -> int:
    """What a pull has to fetch: every different content once, and the index of an unknown repository twice."""
    contents = {file.read_bytes() for file in source.rglob("*") if file.is_file()}
    return sum(map(len, contents)) + (source / "model_index.json").stat().st_size


def assert_same(folder: Path, source: Path) -> None:
    """Two folders hold the same files."""
    names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == names
    for name in names:
        assert (folder / name).read_bytes() == (source / name).read_bytes()


def strangers() -> list[Path]:
    """Everything under HF_HOME that is neither a locked file, nor leads to one, nor a file lock."""
    home = Path(constants.HF_HOME)
    files = [path for path in home.rglob("*") if path.is_file() and ".locks" not in path.parts]
    known = set()
    for path in home.glob("dalle/*.lock.json"):
        known.add(path)
        lock = read_lock(json.loads(path.read_text())["model"])
        assert lock is not None
        known |= {lock.blob(file).resolve() for file in lock.files}
    return [path for path in files if path.resolve() not in known]


class TestAWholePull:
    def test_brings_every_byte_and_says_where(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        pulled = fetch_it()
        assert_same(pulled.folder, source)
        assert hub.body_bytes == published_bytes(source)
        assert locate(find(NAME)).path == pulled.folder
        assert strangers() == []

    def test_is_written_down_with_the_commit_and_the_sha256_of_every_file(self, hub: Hub, source: Path) -> None:
        repository = hub.add("org/name", source)
        lock = fetch_it().lock
        assert lock == read_lock(NAME)
        assert lock.commits == {"org/name": repository.commit}
        assert lock.licence == "mit"
        for file in lock.files:
            data = (source / file.path).read_bytes()
            assert file.sha256 == hashlib.sha256(data).hexdigest()
            assert file.etag == (file.sha256 if len(data) >= 4096 else git_blob(data))

    def test_lies_in_the_hugging_face_cache_for_every_program(self, hub: Hub, source: Path) -> None:
        from huggingface_hub import hf_hub_download

        repository = hub.add("org/name", source)
        fetch_it()
        hub.heal()
        path = hf_hub_download("org/name", BIG, revision=repository.commit, local_files_only=True)
        assert Path(path).read_bytes() == (source / BIG).read_bytes()
        assert hub.requests == []

    def test_takes_what_another_program_has_put_there(self, hub: Hub, source: Path) -> None:
        from huggingface_hub import hf_hub_download

        hub.add("org/name", source)
        hf_hub_download("org/name", BIG)
        hub.heal()
        fetch_it()
        assert hub.body_bytes == published_bytes(source) - (source / BIG).stat().st_size

    def test_does_not_believe_what_another_program_has_put_there(self, hub: Hub, source: Path) -> None:
        """huggingface_hub itself takes wrong bytes of the right number, and serves them for ever."""
        from huggingface_hub import hf_hub_download

        hub.add("org/name", source)
        hub.trouble(BIG, flip=200_000)
        wrong = hf_hub_download("org/name", BIG)
        assert Path(wrong).read_bytes() != (source / BIG).read_bytes()
        hub.heal()
        assert_same(fetch_it().folder, source)

    def test_shows_how_far_it_is(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        steps: list[Transfer] = []
        fetch_it(report=steps.append)
        assert {step.doing for step in steps} == {"fetching"}
        done = [step.done for step in steps]
        assert done == sorted(done)
        assert BIG in {step.path for step in steps}
        assert all(0 <= step.done <= step.total for step in steps)

    def test_asks_first_and_fetches_nothing_without_a_yes(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)

        def refuse(plan: Plan) -> None:
            assert plan.fresh
            assert plan.bytes == sum(file.size for file in plan.lock.files)
            raise RequestError("no")

        with pytest.raises(RequestError):
            fetch_it(agree=refuse)
        assert hub.body_bytes == (source / "model_index.json").stat().st_size
        assert not lock_path(NAME).exists()
        assert strangers() == []

    def test_sends_the_token_to_the_hub_and_to_nobody_else(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/name", source)
        hub.token = "hf_secret"
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        fetch_it()
        assert any(request.path.startswith("/cdn/") for request in hub.requests)
        for request in hub.requests:
            assert ("Authorization" in request.headers) == (not request.path.startswith("/cdn/"))

    def test_sends_no_token_that_the_user_keeps_back(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/name", source)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        fetch_it()
        assert not any("Authorization" in request.headers for request in hub.requests)

    def test_tells_its_name_and_nothing_of_the_machine(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/name", source)
        monkeypatch.setenv("AI_AGENT", "somebody")
        monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None, raising=False)
        fetch_it()
        assert {request.headers["User-Agent"] for request in hub.requests} == {f"dalle/{__version__}"}
        assert all(request.path.startswith(("/api/models/", "/org/name/", "/cdn/")) for request in hub.requests)

    def test_keeps_the_token_out_of_the_lock_and_of_errors(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/name", source)
        hub.token = "hf_right"
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        with pytest.raises(UnknownModel) as raised:
            fetch_it()
        assert "hf_secret" not in repr(raised.value.facts())
        assert "HF_TOKEN" in str(raised.value.hint)


class TestTheSecondTime:
    def test_nothing_is_asked_of_anybody(self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.add("org/name", source)
        fetch_it()

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("the network was used")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "create_connection", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        assert locate(find(NAME)).parameters() > 0
        assert fetch_it().fetched == 0
        lock = read_lock(NAME)
        assert lock is not None
        assert verify(lock, lambda _: None) == []

    def test_the_commit_stays_whatever_the_branch_becomes(self, hub: Hub, source: Path, tmp_path: Path) -> None:
        first = hub.add("org/name", source)
        fetch_it()
        newer = shutil.copytree(source, tmp_path / "newer")
        save_file(large_tensor(3), newer / BIG)
        assert hub.add("org/name", newer).commit != first.commit
        (cached("org/name", hashlib.sha256((source / BIG).read_bytes()).hexdigest())).unlink()
        assert_same(fetch_it().folder, source)

    def test_an_interrupted_pull_goes_on_with_its_commit(self, hub: Hub, source: Path, tmp_path: Path) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, status=404)
        with pytest.raises(NetworkError):
            fetch_it()
        newer = shutil.copytree(source, tmp_path / "newer")
        save_file(large_tensor(3), newer / BIG)
        hub.heal()
        hub.add("org/name", newer)
        assert_same(fetch_it().folder, source)

    def test_after_a_removal_the_branch_is_followed(self, hub: Hub, source: Path, tmp_path: Path) -> None:
        hub.add("org/name", source)
        remove(fetch_it().lock)
        newer = shutil.copytree(source, tmp_path / "newer")
        save_file(large_tensor(3), newer / BIG)
        hub.add("org/name", newer)
        assert_same(fetch_it().folder, newer)

    def test_offline_a_model_that_is_here_is_used(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/name", source)
        fetch_it()
        hub.heal()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert locate(find(NAME)).path == fetch_it().folder
        assert hub.requests == []

    def test_offline_a_model_that_is_not_here_is_an_error_in_words(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/name", source)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(NetworkError, match="HF_HUB_OFFLINE forbids"):
            fetch_it()
        assert hub.requests == []


class TestAnInterruption:
    @pytest.mark.parametrize("at", [0, 1, 4096, LARGE // 2, LARGE + 71])
    def test_costs_no_byte_twice_wherever_it_happens(self, hub: Hub, source: Path, at: int) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, drop_at=at)
        with pytest.raises(NetworkError):
            fetch_it(patience=Patience(tries=1, unit=0.0))
        with pytest.raises(NotDownloaded):
            find(NAME)
        hub.troubles.clear()
        assert_same(fetch_it().folder, source)
        assert hub.body_bytes == published_bytes(source)
        assert strangers() == []

    def test_costs_no_byte_twice_if_it_happens_fifty_times(self, hub: Hub, source: Path) -> None:
        """Each pull is cut somewhere else, and gives up; the next one goes on."""
        hub.add("org/name", source)
        size = (source / BIG).stat().st_size
        for at in sorted(random.Random(1).sample(range(size), 50)):
            hub.troubles.clear()
            hub.trouble(BIG, drop_at=at)
            with pytest.raises(NetworkError):
                fetch_it(patience=Patience(tries=1, unit=0.0))
            with pytest.raises(NotDownloaded):
                find(NAME)
        hub.troubles.clear()
        assert_same(fetch_it().folder, source)
        assert hub.body_bytes == published_bytes(source)
        assert strangers() == []

    def test_within_a_pull_is_mended_by_further_connections(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, drop_at=100_000, times=1)
        hub.trouble(BIG, drop_at=250_000, times=1)
        hub.trouble(BIG, short=1000, times=1)
        assert_same(fetch_it().folder, source)
        assert hub.body_bytes == published_bytes(source)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_of_the_process_costs_no_byte_twice(self, hub: Hub, source: Path, number: signal.Signals) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, pause=0.02)
        code = (
            "from dallecli.weights.fetch.pull import pull\n"
            f"pull({NAME!r}, agree=lambda plan: None, report=lambda step: print(step.done, flush=True))"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        running = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert running.stdout is not None
        while int(running.stdout.readline()) < 100_000:
            pass
        running.send_signal(number)
        running.communicate(timeout=20)
        with pytest.raises(NotDownloaded):
            find(NAME)
        time.sleep(0.1)  # the server is still writing into a connection that nobody reads
        (blob,) = repository_cache("org/name").glob(f"blobs/*{PART}")
        kept = blob.stat().st_size
        hub.heal()
        assert_same(fetch_it().folder, source)
        size = (source / BIG).stat().st_size
        assert sum(request.sent for request in hub.requests if request.path.endswith(BIG)) == size - kept
        assert strangers() == []

    def test_a_server_that_knows_no_ranges_is_served_by_starting_again(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, drop_at=100_000, times=1)
        hub.trouble(BIG, no_ranges=True)
        assert_same(fetch_it().folder, source)

    def test_a_server_that_knows_no_ranges_and_always_stops_is_left(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, drop_at=100_000, no_ranges=True)
        with pytest.raises(NetworkError):
            fetch_it()
        assert hub.body_bytes < 4 * 100_000 + published_bytes(source)

    def test_a_server_that_ends_early_in_good_order_is_asked_again_and_then_left(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        size = (source / BIG).stat().st_size
        hub.trouble(BIG, short=size - 1000)
        with pytest.raises(NetworkError, match=f"ended .* at 1000 of {size} bytes"):
            fetch_it()
        hub.heal()
        assert_same(fetch_it().folder, source)

    def test_a_slow_server_is_waited_for(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble("vocab.json", pause=0.3)
        assert_same(fetch_it().folder, source)

    def test_a_silent_server_is_left(self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        hub.add("org/name", source)
        hub.trouble(BIG, pause=1.0)
        with pytest.raises(NetworkError, match="connection to the Hub failed"):
            fetch_it(patience=Patience(tries=1, unit=0.0))


WRONGS: dict[str, dict[str, Any]] = {
    "first byte": {"flip": 0},
    "in the header": {"flip": 100 - 30},
    "in the middle": {"flip": 200_000},
    "last byte": {"flip": LARGE},
    "one too many": {"long": 1},
    "many too many": {"long": 5000},
    "a web page": {"replace": b"<!DOCTYPE html><title>Login</title>"},
    "a Git LFS pointer": {"replace": b"version https://git-lfs.github.com/spec/v1"},
}


class TestWrongBytes:
    @pytest.mark.parametrize("name", WRONGS)
    def test_are_put_aside_and_the_next_pull_repairs(self, hub: Hub, source: Path, name: str) -> None:
        wrong = WRONGS[name]
        hub.add("org/name", source)
        if "replace" in wrong:  # of the right length: a shorter answer is asked for again
            wrong = {"replace": wrong["replace"].ljust((source / BIG).stat().st_size)}
        hub.trouble(BIG, **wrong)
        with pytest.raises(BadFile, match=r"decoder.* came with") as raised:
            fetch_it()
        assert len(raised.value.lines()) == 3
        aside = Path(str(raised.value.where))
        assert aside.is_file() and WRONG in aside.name
        with pytest.raises(NotDownloaded, match="only in part: decoder"):
            find(NAME)
        assert repository_cache("org/name").glob("blobs/*")
        hub.heal()
        assert_same(fetch_it().folder, source)
        assert strangers() == []

    def test_of_a_small_file_are_found_by_gits_own_name_for_it(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble("vocab.json", flip=3)
        with pytest.raises(BadFile, match="git's SHA-1"):
            fetch_it()
        hub.heal()
        assert_same(fetch_it().folder, source)

    def test_in_what_was_there_before_cost_one_more_attempt(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        part = cached("org/name", hashlib.sha256((source / BIG).read_bytes()).hexdigest())
        part.parent.mkdir(parents=True)
        part.with_name(part.name + PART).write_bytes(b"something else" * 100)
        assert_same(fetch_it().folder, source)
        assert strangers() == []

    def test_longer_than_the_file_that_were_there_before_cost_one_more_attempt(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        part = cached("org/name", hashlib.sha256((source / BIG).read_bytes()).hexdigest())
        part.parent.mkdir(parents=True)
        part.with_name(part.name + PART).write_bytes((source / BIG).read_bytes() + b"x")
        assert_same(fetch_it().folder, source)

    @pytest.mark.parametrize("harm", ["flip", "cut", "gone", "empty", "folder is gone"])
    def test_in_the_cache_are_found_and_repaired(self, hub: Hub, source: Path, harm: str) -> None:
        hub.add("org/name", source)
        pulled = fetch_it()
        blob = (pulled.folder / BIG).resolve()
        data = blob.read_bytes()
        if harm == "flip":
            blob.write_bytes(data[:100] + bytes([data[100] ^ 4]) + data[101:])
        elif harm == "cut":
            os.truncate(blob, 1000)
        elif harm == "empty":
            os.truncate(blob, 0)
        elif harm == "gone":
            blob.unlink()
        else:
            shutil.rmtree(pulled.folder)
        if harm != "flip":
            with pytest.raises(NotDownloaded):
                locate(find(NAME))
        bad = verify(pulled.lock, lambda _: None)
        assert [file.path for file in bad] == ([] if harm == "folder is gone" else [BIG])
        with pytest.raises(NotDownloaded):
            locate(find(NAME))
        assert_same(fetch_it().folder, source)
        assert strangers() == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("trouble", "kind", "words"),
        [
            ({"status": 401}, NetworkError, "refuses org/name"),
            ({"status": 403}, NetworkError, "refuses org/name"),
            ({"status": 404}, NetworkError, "answers 404"),
            ({"status": 429}, NetworkError, "too many requests"),
            ({"status": 500}, NetworkError, "in trouble"),
            ({"status": 503}, NetworkError, "in trouble"),
            ({"status": 418}, NetworkError, "answers 418"),
            ({"status": 404, "headers": {"X-Error-Code": "RevisionNotFound"}}, UnknownModel, "no revision"),
            ({"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, UnknownModel, "there is no org/name"),
            ({"status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, NetworkError, "accept its terms"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("listing", [True, False], ids=["listing", "file"])
    def test_are_three_lines_and_leave_nothing(
        self, hub: Hub, source: Path, trouble: dict[str, Any], kind: type[DalleError], words: str, listing: bool
    ) -> None:
        hub.add("org/name", source)
        hub.trouble("" if listing else BIG, listing=listing, **trouble)
        with pytest.raises(kind, match=words) as raised:
            fetch_it()
        assert len(raised.value.lines()) <= 3
        with pytest.raises(NotDownloaded):
            find(NAME)
        if listing:
            assert strangers() == []
        hub.heal()
        assert_same(fetch_it().folder, source)

    @pytest.mark.parametrize(
        "answer",
        [
            b"<html>please log in</html>",
            b"[]",
            b"{}",
            b'{"id": "x", "sha": "../..", "siblings": []}',
            b'{"sha": 1}',
            b"",
        ],
    )
    def test_a_server_that_is_no_hub_is_called_that(self, hub: Hub, source: Path, answer: bytes) -> None:
        hub.add("org/name", source)
        hub.trouble(listing=True, replace=answer)
        with pytest.raises(NetworkError, match="does not answer as the Hub does"):
            fetch_it()
        assert strangers() == []

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_that_may_pass_are_waited_for(self, hub: Hub, source: Path, status: int) -> None:
        hub.add("org/name", source)
        hub.trouble(listing=True, status=status, times=2, headers={"Retry-After": "7"})
        hub.trouble(BIG, status=status, times=2)
        pauses: list[float] = []
        assert_same(fetch_it(patience=Patience(tries=3, unit=0.5, sleep=pauses.append)).folder, source)
        assert pauses == [7.0, 7.0, 0.5, 1.0]

    def test_that_ask_for_an_hour_are_not_waited_for(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble(listing=True, status=429, headers={"Retry-After": "3600"})
        with pytest.raises(NetworkError, match="429"):
            fetch_it(patience=Patience(sleep=lambda _: pytest.fail("it waited")))

    def test_a_hub_that_is_not_there_is_an_error_in_words(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as taken:  # bound, but nobody listens
            taken.bind(("127.0.0.1", 0))
            monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(NetworkError, match="connection to the Hub failed") as raised:
                fetch_it()
        assert raised.value.where == constants.ENDPOINT

    @pytest.mark.parametrize(
        "name", ["hf:", "hf:org", "hf:org/name@", "hf:../x/y", "hf:o/n@../../etc", "hf:o/..", "hf:o/n@a b", "hf:o/n\n"]
    )
    def test_of_names_that_are_none(self, name: str) -> None:
        for ask in (find, fetch_it):
            with pytest.raises(UnknownModel, match="not the name of a repository"):
                ask(name)

    def test_a_full_disk_is_noticed_before_a_byte_is_fetched(
        self, hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/name", source)
        monkeypatch.setattr(plan, "SPARE", 10**18)
        with pytest.raises(DiskFull, match="GB are free"):
            fetch_it()
        assert hub.body_bytes == (source / "model_index.json").stat().st_size

    def test_a_model_that_comes_with_dalle_or_is_a_folder_has_nothing_to_pull(self, tmp_path: Path) -> None:
        for name in ("starter", str(write_model(tmp_path / "mine"))):
            with pytest.raises(RequestError, match="nothing to pull"):
                fetch_it(name)


class TestWhatIsFetched:
    def test_files_that_no_part_needs_stay_where_they_are(self, hub: Hub, source: Path, tmp_path: Path) -> None:
        full = shutil.copytree(source, tmp_path / "full")
        for name in ("README.md", "sample.png", "decoder/flax_model.msgpack", "safety_checker/model.safetensors"):
            (full / name).parent.mkdir(exist_ok=True)
            (full / name).write_bytes(b"x" * 100)
        (full / "decoder" / "diffusion_pytorch_model.bin").write_bytes(b"x" * LARGE)
        shutil.copy(full / BIG, full / "decoder" / "diffusion_pytorch_model.fp16.safetensors")
        hub.add("org/name", full)
        assert_same(fetch_it().folder, source)
        assert hub.body_bytes == published_bytes(source)

    def test_half_precision_is_taken_if_asked_for_and_there(self, hub: Hub, source: Path) -> None:
        half = source / "decoder" / "diffusion_pytorch_model.fp16.safetensors"
        save_file({name: tensor.half() for name, tensor in large_tensor(1).items()}, half)
        hub.add("org/name", source)
        folder = fetch_it(half=True).folder
        assert sorted(path.name for path in (folder / "decoder").iterdir()) == ["config.json", half.name]
        assert locate(find(NAME)).weights_file("decoder").name == half.name
        full = fetch_it(half=False).folder
        assert locate(find(NAME)).weights_file("decoder").name == Path(BIG).name
        assert_same(full / "prior", source / "prior")
        assert strangers() == []

    @pytest.mark.parametrize("half", [True, False])
    def test_of_split_weights_the_index_and_its_files_in_one_precision(
        self, hub: Hub, source: Path, tmp_path: Path, half: bool
    ) -> None:
        full = shutil.copytree(source, tmp_path / "full")
        (full / BIG).unlink()
        shutil.rmtree(source / "decoder")
        chosen = ["config.json"]
        for precision in ("", ".fp16"):
            tensors = {f"t{number}": large_tensor(number, 20_000)["weight"] for number in range(3)}
            save_torch_state_dict(
                tensors,
                full / "decoder",
                filename_pattern=f"diffusion_pytorch_model{precision}{{suffix}}.safetensors",
                max_shard_size=30_000,
            )
            stem = "diffusion_pytorch_model"
            index = full / "decoder" / f"{stem}.safetensors.index{precision}.json"
            (full / "decoder" / f"{stem}{precision}.safetensors.index.json").rename(index)
            if (precision != "") == half:
                chosen += [
                    index.name,
                    *(f"{stem}{precision}-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
                ]
        hub.add("org/name", full)
        folder = fetch_it(half=half).folder
        assert sorted(path.name for path in (folder / "decoder").iterdir()) == sorted(chosen)
        assert locate(find(NAME)).parameters_of("decoder") == 15_000
        lock = read_lock(NAME)
        assert lock is not None and {file.path for file in lock.files} >= {f"decoder/{name}" for name in chosen}

        # One file is damaged: verify finds it, and a pull fetches it alone again.
        shard = lock.blob(next(file for file in lock.files if "00002" in file.path))
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
        assert [file.path.rpartition("-of-")[0][-5:] for file in verify(lock, lambda _: None)] == ["00002"]
        hub.heal()
        fetch_it()
        assert [request.sent > 0 for request in hub.requests].count(True) == 1
        assert locate(find(NAME)).parameters_of("decoder") == 15_000

    def test_split_weights_of_which_a_file_is_missing_are_refused_before_any_is_fetched(
        self, hub: Hub, source: Path
    ) -> None:
        for number in (1, 3):
            shutil.copy(source / BIG, source / "decoder" / f"diffusion_pytorch_model-0000{number}-of-00003.safetensors")
        (source / BIG).rename(source / "decoder" / "diffusion_pytorch_model.safetensors.index.json")
        hub.add("org/name", source)
        with pytest.raises(BadFolder, match="of 3 files with weights, number 2 is missing"):
            fetch_it()

    def test_split_pickles_are_not_pulled_and_the_hint_says_what_to_do(self, hub: Hub, source: Path) -> None:
        (source / BIG).rename(source / "decoder" / "pytorch_model-00001-of-00002.bin")
        write_json(source / "decoder" / "pytorch_model.bin.index.json", {"weight_map": {}})
        hub.add("org/name", source)
        with pytest.raises(BadFile, match="split into pickled files") as raised:
            fetch_it()
        assert "dalle models convert" in str(raised.value.hint)

    def test_of_karlo_what_its_tasks_need_from_two_repositories(self, hub: Hub, source: Path, tmp_path: Path) -> None:
        """For variations there is no prior, and so another kind of folder; the whole has both."""
        variations = shutil.copytree(source, tmp_path / "variations")
        shutil.rmtree(variations / "prior")
        shutil.rmtree(variations / "prior_scheduler")
        write_json(variations / "model_index.json", {"_class_name": "UnCLIPImageVariationPipeline"})
        write_json(variations / "image_encoder" / "config.json", {"image_size": 28})
        save_file(large_tensor(4, 20_000), variations / "image_encoder" / "model.safetensors")
        write_json(variations / "feature_extractor" / "preprocessor_config.json", {"size": 28})
        hub.add("kakaobrain/karlo-v1-alpha", source)
        hub.add("kakaobrain/karlo-v1-alpha-image-variations", variations)

        pulled = fetch_it("karlo", tasks=["vary"])
        assert_same(pulled.folder, variations)
        pulled_parts = locate(find("karlo"))
        assert ("prior" in pulled_parts.parts, "generate" in pulled_parts.tasks) == (
            False,
            True,
        )  # with --prior none alone
        assert not any("/prior/" in request.path for request in hub.requests)

        hub.heal()
        both = shutil.copytree(variations, tmp_path / "both", dirs_exist_ok=True)
        shutil.copytree(source, both, dirs_exist_ok=True)
        assert_same(fetch_it("karlo").folder, both)
        assert {"generate", "vary"} <= set(locate(find("karlo")).tasks)
        assert not any(request.path.endswith(BIG) for request in hub.requests)
        assert strangers() == []

    def test_of_kandinsky_three_repositories_side_by_side_at_their_commits(self, hub: Hub) -> None:
        """The commits in the registry are real ones; here they stand for a few bytes."""
        files: dict[str, dict[str, bytes]] = {}
        for part in registry()["kandinsky"].parts:
            here = files[part.folder] = {"model_index.json": part.folder.encode(), "README.md": b"no part"}
            for name in part.names:
                if name in ("unet", "movq", "prior", "text_encoder", "image_encoder"):
                    stem = "model" if name.endswith("_encoder") else "diffusion_pytorch_model"
                    here[f"{name}/config.json"] = b"{}"
                    here[f"{name}/{stem}.safetensors"] = (name * 2000).encode()
                    here[f"{name}/{stem}.bin"] = b"a duplicate"
                else:
                    here[f"{name}/{name}_config.json"] = b"{}"
            assert part.commit is not None
            hub.add(part.repository, here)
            hub.pin(part.repository, part.commit)
        pulled = fetch_it("kandinsky")
        assert pulled.lock.commits == {part.repository: part.commit for part in registry()["kandinsky"].parts}
        wanted = {
            f"{folder}/{path}" for folder, here in files.items() for path in here if not path.endswith((".bin", ".md"))
        }
        assert {
            path.relative_to(pulled.folder).as_posix() for path in pulled.folder.rglob("*") if path.is_file()
        } == wanted
        movqs = [
            pulled.folder / folder / "movq" / "diffusion_pytorch_model.safetensors"
            for folder in files
            if "decoder" in folder
        ]
        assert len({path.stat().st_ino for path in movqs}) == 1
        assert sum("movq/diff" in request.path and request.sent > 0 for request in hub.requests) <= 1

    def test_a_part_that_another_repository_has_already_is_stored_once(
        self, hub: Hub, source: Path, tmp_path: Path
    ) -> None:
        hub.add("org/name", source)
        fetch_it()
        other = shutil.copytree(source, tmp_path / "other")
        write_json(other / "decoder" / "config.json", {"sample_size": 32})
        hub.add("org/other", other)
        hub.heal()
        pulled = fetch_it("hf:org/other")
        assert_same(pulled.folder, other)
        assert not any(request.path.endswith(BIG) for request in hub.requests)
        assert (pulled.folder / BIG).stat().st_ino == (folder_path(NAME) / BIG).stat().st_ino

    def test_a_task_that_a_model_does_not_have_is_refused(self) -> None:
        with pytest.raises(TaskNotSupported, match="karlo cannot fly"):
            fetch_it("karlo", tasks=["fly"])

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda m: (m / "model_index.json").unlink(), "no model_index.json"),
            (lambda m: write_json(m / "model_index.json", {"_class_name": "FluxPipeline"}), "'FluxPipeline'"),
            (lambda m: write_json(m / "model_index.json", {}), "kind None"),
            (lambda m: (m / "model_index.json").write_text("{"), "not valid JSON"),
            (lambda m: shutil.rmtree(m / "prior"), "the part prior is not in this repository"),
            (lambda m: (m / BIG).unlink(), "decoder has no weights"),
            (lambda m: (m / BIG).rename(m / "decoder" / "model.ckpt"), "decoder has no weights"),
            (
                lambda m: (m / BIG).rename(m / "decoder" / "diffusion_pytorch_model.safetensors.index.json"),
                "split into 0 files",
            ),
        ],
    )
    def test_a_repository_that_is_no_model_is_refused_before_its_weights_are_fetched(
        self, hub: Hub, source: Path, change: Callable[[Path], None], words: str
    ) -> None:
        change(source)
        hub.add("org/name", source)
        with pytest.raises((BadFolder, BadFile), match=words):
            fetch_it()
        assert hub.body_bytes < 4096
        assert strangers() == []

    def test_names_that_lead_out_of_the_cache_are_not_taken(self, hub: Hub, source: Path) -> None:
        files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
        bad = {
            "../evil": b"x",
            "prior/../../evil": b"x",
            "/evil": b"x",
            "prior/evil\n.json": b"x",
            "prior//a.json": b"x",
        }
        hub.add("org/name", {**files, **bad})
        assert_same(fetch_it().folder, source)


class TestRemoval:
    def test_leaves_nothing(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        freed = remove(fetch_it().lock)
        contents = {file.read_bytes() for file in source.rglob("*") if file.is_file()}
        assert freed == sum(map(len, contents))
        left = [path for path in Path(constants.HF_HOME).rglob("*") if ".locks" not in path.parts]
        assert {path.name for path in left} <= {"hub", "dalle"}
        with pytest.raises(NotDownloaded):
            find(NAME)

    def test_leaves_what_another_model_uses(self, hub: Hub, source: Path, tmp_path: Path) -> None:
        hub.add("org/name", source)
        first = fetch_it()
        newer = shutil.copytree(source, tmp_path / "newer")
        write_json(newer / "decoder" / "config.json", {"sample_size": 32})
        commit = hub.add("org/name", newer).commit
        second = fetch_it(f"{NAME}@{commit}")
        remove(first.lock)
        assert_same(second.folder, newer)
        assert verify(second.lock, lambda _: None) == []
        assert strangers() == []

    def test_leaves_what_was_in_the_cache_before(self, hub: Hub, source: Path) -> None:
        from huggingface_hub import hf_hub_download

        hub.add("org/name", source)
        theirs = Path(hf_hub_download("org/name", BIG))
        remove(fetch_it().lock)
        assert theirs.read_bytes() == (source / BIG).read_bytes()

    def test_also_removes_half_a_pull(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, drop_at=100_000)
        with pytest.raises(NetworkError):
            fetch_it()
        lock = read_lock(NAME)
        assert lock is not None
        assert remove(lock) >= 100_000
        assert strangers() == []


class TestTheLock:
    @pytest.mark.parametrize(
        "change",
        [
            {"format": "dalle-lock/9"},
            {"files": None},
            {"files": [{}]},
            {"files": [{"path": "../../evil"}]},
            {"commits": {"org/name": "main"}},
            {"commits": {"../..": "0" * 40}},
            {"model": "another"},
            {"surprise": 1},
            {"half": 1},
            {"licence": 5},
            {"tasks": "generate"},
            {"files": [{"size": True}]},
            {"files": [{"etag": "main"}]},
        ],
        ids=str,
    )
    def test_that_was_tampered_with_is_refused(self, hub: Hub, source: Path, change: dict[str, Any]) -> None:
        hub.add("org/name", source)
        fetch_it()
        path = lock_path(NAME)
        content = json.loads(path.read_text())
        if change.get("files") and change["files"][0]:
            change = {"files": [{**content["files"][0], **change["files"][0]}]}
        path.write_text(json.dumps({**content, **change}))
        for ask in (find, fetch_it):
            with pytest.raises(BadFile, match="lock file"):
                ask(NAME)

    def test_two_pulls_at_once_fetch_every_byte_once(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)
        hub.trouble(BIG, pause=0.002)
        code = (
            "from dallecli.weights.fetch.pull import pull\n"
            f"pull({NAME!r}, agree=lambda plan: None, report=lambda step: None)"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
        assert [running.wait(timeout=30) for running in both] == [0, 0]
        assert_same(folder_path(NAME), source)
        assert hub.body_bytes == published_bytes(source)


class TestPickles:
    @pytest.fixture
    def pickled(self, source: Path, tmp_path: Path) -> Path:
        """The same model, published as most were in 2022."""
        folder = shutil.copytree(source, tmp_path / "pickled")
        for path in list(folder.rglob("*.safetensors")):
            name = (
                "pytorch_model.bin" if path.name == "model.safetensors" else path.name.replace(".safetensors", ".bin")
            )
            torch.save(load_file(path), path.with_name(name))
            path.unlink()
        return folder

    @pytest.mark.long
    def test_become_safetensors_with_the_same_numbers(self, hub: Hub, source: Path, pickled: Path) -> None:
        hub.add("org/name", pickled)
        pulled = fetch_it()
        names = {path.relative_to(source) for path in source.rglob("*.safetensors")}
        assert {path.relative_to(pulled.folder) for path in pulled.folder.rglob("*.safetensors")} == names
        for name in names:
            ours, theirs = load_file(pulled.folder / name), load_file(source / name)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert locate(find(NAME)).parameters() > 0
        assert not [path for path in Path(constants.HF_HOME).rglob("*.bin") if path.is_file()]
        assert strangers() == []
        hub.heal()
        assert fetch_it().fetched == 0
        assert hub.requests == []
        remove(pulled.lock)
        assert not [path for path in Path(constants.HF_HOME).rglob("*") if path.is_file() and path.suffix != ".lock"]

    @pytest.mark.slow
    def test_that_were_converted_are_fetched_again_when_the_result_is_damaged(self, hub: Hub, pickled: Path) -> None:
        hub.add("org/name", pickled)
        pulled = fetch_it()
        data = (pulled.folder / BIG).read_bytes()
        (pulled.folder / BIG).resolve().write_bytes(data[:-1] + b"?")
        assert [file.path for file in verify(pulled.lock, lambda _: None)] == [BIG]
        again = fetch_it()
        assert (again.folder / BIG).read_bytes() == data
        assert strangers() == []

    @pytest.mark.long
    def test_that_would_run_code_are_refused_and_nothing_runs(self, hub: Hub, pickled: Path, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.system, (f"touch {tmp_path / 'owned'}",)

        path = pickled / "decoder" / "diffusion_pytorch_model.bin"
        torch.save({"weight": torch.zeros(2000), "evil": Evil()}, path)
        hub.add("org/name", pickled)
        with pytest.raises(BadFile, match="cannot be read"):
            fetch_it()
        assert not (tmp_path / "owned").exists()
        with pytest.raises(NotDownloaded):
            find(NAME)


SOON = Patience(tries=3, unit=0.0, answer=1.0, window=1.0)


class TestAServerWithoutMeasure:
    """Every answer has a most that is read of it, and a time after which nobody waits for it any more."""

    @pytest.fixture(autouse=True)
    def published(self, hub: Hub, source: Path) -> None:
        hub.add("org/name", source)

    def refused(self, words: str, seconds: float = 10.0) -> None:
        """A pull is refused in these words, soon and in little memory, and leaves nothing behind but parts."""
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(DalleError, match=words) as raised:
            fetch_it(patience=SOON)
        assert len(raised.value.lines()) <= 3
        assert raised.value.exit_code in (3, 4)
        assert time.monotonic() - began < seconds
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 2**10  # KiB
        with pytest.raises(NotDownloaded):
            find(NAME)

    def test_a_listing_that_unpacks_to_a_gigabyte_is_not_unpacked(self, hub: Hub) -> None:
        bomb = gzip.compress(bytes(2**20)) * 1024
        hub.trouble(listing=True, replace=bomb, headers={"Content-Encoding": "gzip"})
        self.refused("packed bytes, which were not asked for")

    def test_a_file_that_comes_packed_is_not_unpacked(self, hub: Hub, source: Path) -> None:
        hub.trouble("model_index.json", headers={"Content-Encoding": "gzip"})
        self.refused("packed bytes, which were not asked for")

    @pytest.mark.parametrize("listing", [b" " * (9 * 2**20), b"[" * 2**20, b'{"a":' * 2**20], ids=len)
    def test_a_huge_listing_is_not_read_to_its_end(self, hub: Hub, listing: bytes) -> None:
        hub.trouble(listing=True, replace=listing)
        self.refused("more than 8 MiB|does not answer as the Hub does")

    def test_a_listing_of_a_hundred_thousand_files_is_refused(self, hub: Hub) -> None:
        siblings = [{"rfilename": f"{k}"} for k in range(100_000)]
        hub.trouble(listing=True, replace=json.dumps({"sha": "0" * 40, "siblings": siblings}).encode())
        self.refused("this repository has 100000 files, the limit is 10000")

    def test_an_index_of_ten_terabytes_is_refused_before_anybody_is_asked(self, hub: Hub) -> None:
        sibling = {"rfilename": "model_index.json", "size": 10**13, "blobId": "0" * 40}
        hub.trouble(listing=True, replace=json.dumps({"sha": "0" * 40, "siblings": [sibling]}).encode())
        self.refused("its model_index.json has 10000000000000 bytes, the limit is 1 MiB")
        assert [request.path for request in hub.requests if "/resolve/" in request.path] == []

    @pytest.mark.parametrize("listing", [True, False])
    def test_redirects_without_an_end_are_not_followed_to_it(self, hub: Hub, listing: bool) -> None:
        hub.trouble("" if listing else "model_index.json", listing=listing, redirect=True)
        self.refused("the server redirects more than 10 times")
        assert len(hub.requests) <= 12

    @pytest.mark.parametrize("listing", [True, False])
    def test_headers_that_come_byte_by_byte_are_not_waited_for(self, hub: Hub, listing: bool) -> None:
        hub.trouble("" if listing else "model_index.json", listing=listing, drip=0.1)
        self.refused("the Hub has not answered in 1 seconds")

    def test_a_listing_that_comes_byte_by_byte_is_not_waited_for(self, hub: Hub) -> None:
        hub.trouble(listing=True, replace=b" " * 1000, pause=0.1, step=1)
        self.refused("the Hub has not answered in 1 seconds")

    def test_a_file_that_comes_byte_by_byte_is_not_waited_for_and_what_has_come_stays(
        self, hub: Hub, source: Path
    ) -> None:
        slow = hub.trouble(BIG, pause=0.05, step=100)
        self.refused("the Hub sends less than 64 KiB in 1 seconds")
        assert [path.stat().st_size > 0 for path in strangers() if path.name.endswith(PART)] == [True]
        slow.times = 0
        assert_same(fetch_it(patience=SOON).folder, source)

    @pytest.mark.long
    def test_a_slow_line_is_no_server_without_measure(self, hub: Hub, source: Path) -> None:
        hub.trouble(BIG, pause=0.02)
        assert_same(fetch_it(patience=SOON).folder, source)
