"""The Hugging Face Hub: what a repository holds, and the bytes of a file from any offset on.

Everything goes through huggingface_hub's own session, so its variables (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, proxies)
and a configured client are honoured. Only the reading is ours: huggingface_hub 2.4 loses a partly fetched file when its
process ends, and accepts any bytes of the right number.

huggingface_hub is imported inside functions only: short commands have no time for it.
"""

import base64
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from dallecli.errors import BadFolder, DalleError, NetworkError, UnknownModel
from dallecli.limits import (
    ANSWER_SECONDS,
    LISTING_BYTES,
    LISTING_FILES,
    RATE_BYTES,
    RATE_SECONDS,
    REDIRECTS,
    in_words,
)
from dallecli.version import __version__

T = TypeVar("T")

REPOSITORY: Final = r"[\w-][\w.-]*/[\w-][\w.-]*"
"""ORG/NAME, as a regular expression for ASCII."""

PATH: Final = r"[\w-][\w.+-]*(/[\w-][\w.+-]*)*"
"""The path of a file in a repository: names decide where bytes are put, so only plain ones are taken."""

COMMIT: Final = "[0-9a-f]{40}"
DIGEST: Final = "[0-9a-f]{40}|[0-9a-f]{64}"
"""A SHA-1 or a sha256."""

RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
"""The statuses after which a request is made again; any other would be the same the next time."""

LONGEST_PATH: Final = 512
LONGEST_LICENCE: Final = 100

LOGIN: Final = "is there a login page in between?"

LONGEST_WAIT: Final = 120.0
"""Seconds. If a server asks for a longer pause, the pull fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a repository at one commit."""

    repository: str
    commit: str
    path: str
    """In the repository."""
    size: int
    """Bytes."""
    etag: str
    """The Hub's name for the bytes, in hex: their sha256, or for small files the SHA-1 that git gives a blob."""
    url: str | None = None
    """Where the file lies that is in no repository. Its `etag` is the sha256 of its bytes, or "" where nobody knows."""
    md5: bytes | None = None
    """What the server says of the bytes at `url`, if it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a repository holds at one commit."""

    repository: str
    commit: str
    licence: str | None
    """As the Hub states it; None where it states none."""
    files: Mapping[str, RemoteFile]
    """By path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a request is made before it counts as failed, and the pauses between.

    The pauses are 1, 2, 4, … times `unit`, or what the server asks for.
    """

    tries: int = 5
    unit: float = 1.0
    """Seconds."""
    sleep: Callable[[float], None] = time.sleep
    answer: float = ANSWER_SECONDS
    """Seconds until a listing is there, or the first byte of a file."""
    window: float = RATE_SECONDS
    """Seconds in which `RATE_BYTES` of a file have to come."""

    def pause(self, failures: int, asked: float | None = None) -> None:
        """Wait after the first, second, … failure in a row."""
        self.sleep(asked if asked is not None else self.unit * 2.0 ** (failures - 1))


class Dropped(Exception):
    """A request failed in a way that may not happen again. `asked`: seconds to wait, if the server says so."""

    def __init__(self, error: DalleError, asked: float | None = None) -> None:
        super().__init__(error.what)
        self.error = error
        self.asked = asked


def list_files(repository: str, revision: str, patience: Patience) -> Listing:
    """List what a repository holds at a branch, tag or commit. Files with unusual names are left out.

    Raises:
        UnknownModel: there is no such repository or revision, or it is private.
        NetworkError: the Hub cannot be reached, refuses, is too slow, or does not answer as the Hub does.
        BadFolder: it has more files than any model.
    """
    from huggingface_hub import constants

    check_environment()
    # As HfApi.model_info asks for it. That would believe whatever length an answer has, however slowly it comes.
    url = f"{constants.ENDPOINT}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"

    def ask() -> bytes:
        with _translated(repository, revision), _Pump(lambda: _stream(url, {}, constants.HF_HUB_ETAG_TIMEOUT)) as pump:
            return _whole(pump, patience)

    return _listing(repository, _parsed(patiently(ask, patience)))


def _whole(pump: "_Pump", patience: "Patience") -> bytes:
    """All bytes of a short answer. Raises NetworkError if there are too many, or they take too long."""
    until = time.monotonic() + patience.answer
    pump.head(patience.answer)
    answer = bytearray()
    while chunk := pump.take(until - time.monotonic(), f"the Hub has not answered in {patience.answer:g} seconds"):
        answer += chunk
        if len(answer) > LISTING_BYTES:
            raise NetworkError(f"the Hub's listing has more than {in_words(LISTING_BYTES)}", host(), LOGIN)
    return bytes(answer)


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise NetworkError("the server does not answer as the Hub does", host(), LOGIN) from error
    if not isinstance(facts, dict):
        raise NetworkError("the server does not answer as the Hub does", host(), LOGIN)
    return facts


def patiently(ask: Callable[[], T], patience: Patience) -> T:
    """Call `ask` until it returns or `patience` ends.

    Raises:
        NetworkError: of the last failure.
    """
    failures = 0
    while True:
        try:
            return ask()
        except Dropped as dropped:
            failures += 1
            if failures >= patience.tries:
                raise dropped.error from dropped
            patience.pause(failures, dropped.asked)


@contextmanager
def reading(file: RemoteFile, offset: int, patience: Patience) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The bytes of a file as they arrive, and the offset at which they start: `offset`, or 0.

    Raises:
        Dropped: the connection failed, now or while the bytes are read; a later request may succeed.
        NetworkError: as `list_files`, and where they come more slowly than `RATE_BYTES` in `patience.window`.
        UnknownModel: as `list_files`.
    """
    from huggingface_hub import constants, hf_hub_url

    check_environment()
    url = file.url if file.url is not None else hf_hub_url(file.repository, file.path, revision=file.commit)
    part = {"Range": f"bytes={offset}-"} if offset > 0 else {}
    with (
        _translated(file.repository, file.commit, file.url),
        _Pump(lambda: _stream(url, part, constants.HF_HUB_DOWNLOAD_TIMEOUT, hub=file.url is None)) as pump,
    ):
        head = pump.head(patience.answer)
        if head.status == 416:  # nothing at this offset: what we have is not the start of this file
            yield 0, iter(())
            return
        stated = re.match(r"bytes (\d+)-", head.range)
        start = int(stated[1]) if head.status == 206 and stated is not None else 0
        if start not in (0, offset):
            raise NetworkError(f"the server answered with byte {start} instead of {offset}", host())
        yield start, _paced(pump, patience.window)


def _paced(pump: "_Pump", window: float) -> Iterator[bytes]:
    """The chunks as they come. Raises NetworkError where fewer than `RATE_BYTES` come in `window` seconds."""
    slow = f"the Hub sends less than {in_words(RATE_BYTES)} in {window:g} seconds"
    began, came = time.monotonic(), 0
    while chunk := pump.take(began + window - time.monotonic(), slow):
        yield chunk
        came += len(chunk)
        if came >= RATE_BYTES:
            began, came = time.monotonic(), 0


# Compressed, an offset would count other bytes, and a length say nothing.
_ASKING: Final = {"User-Agent": f"dalle/{__version__}", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class _Head:
    """What the headers of an answer say: the status, and which bytes these are."""

    status: int
    range: str


def _stream(url: str, headers: Mapping[str, str], timeout: float, *, hub: bool = True) -> Generator[_Head | bytes]:
    """The head of an answer, and then its bytes as they come. Raises what huggingface_hub and its HTTP library raise.

    Redirects are followed here: the library would read the whole body of each. Nothing is unpacked, and an error's body
    is not looked at.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # lazy there

    session = get_session()
    asked = {**_ASKING, **(_authorization() if hub else {}), **headers}
    request = session.build_request("GET", url, headers=asked, timeout=timeout)
    for _ in range(REDIRECTS + 1):
        response = session.send(request, stream=True, follow_redirects=False)
        try:
            if response.next_request is not None:
                request = response.next_request
                continue
            if response.status_code >= 400 and response.status_code != 416:
                told = {k: v for k, v in response.headers.items() if k.lower() not in _ABOUT_BODIES}
                hf_raise_for_status(type(response)(response.status_code, headers=told, request=request))
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise NetworkError("the server sends packed bytes, which were not asked for", host(), LOGIN)
            yield _Head(response.status_code, response.headers.get("Content-Range", ""))
            yield from response.iter_raw()
            return
        finally:
            response.close()
    raise NetworkError(f"the server redirects more than {REDIRECTS} times", host(), LOGIN)


def _authorization() -> dict[str, str]:
    """The user's token, which is for the Hub and for no other server.

    huggingface_hub's own headers say what else is installed and which program has started this one, for which it makes
    another request: nobody who pulls a model has asked to tell.
    """
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return {} if token is None else {"Authorization": f"Bearer {token}"}


_ABOUT_BODIES: Final = ("content-encoding", "content-length", "transfer-encoding")


class _Pump:
    """A thread that reads an answer, so that nobody waits longer for it than they want to.

    A timeout of the HTTP library begins again with every byte: a server that sends one now and then is never too slow.
    """

    def __init__(self, produce: Callable[[], Generator[_Head | bytes]]) -> None:
        self._produce = produce
        self._ready = queue.Queue[_Head | bytes | BaseException](maxsize=8)
        self._left = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def head(self, seconds: float) -> _Head:
        """The head of the answer. Raises what making the request raised, and NetworkError if it takes too long."""
        head = self._next(seconds, f"the Hub has not answered in {seconds:g} seconds")
        assert isinstance(head, _Head)
        return head

    def take(self, seconds: float, late: str) -> bytes:
        """The next bytes, none at the end. Raises as `head`, with these words."""
        chunk = self._next(seconds, late)
        assert isinstance(chunk, bytes)
        return chunk

    def _next(self, seconds: float, late: str) -> _Head | bytes:
        try:
            ready = self._ready.get(timeout=max(seconds, 0))
        except queue.Empty:
            hint = "try again later, or over another line: the same command goes on where it stopped"
            raise NetworkError(late, host(), hint) from None
        if isinstance(ready, BaseException):
            raise ready
        return ready

    def _run(self) -> None:
        try:
            with closing(self._produce()) as answer:
                for item in answer:
                    if item and not self._put(item):
                        return
            self._put(b"")
        except BaseException as error:  # whatever it is, it is raised again where the answer is waited for
            self._put(error)

    def _put(self, item: _Head | bytes | BaseException) -> bool:
        """Hand it over; False if nobody waits any more."""
        while not self._left.is_set():
            with suppress(queue.Full):
                self._ready.put(item, timeout=0.5)
                return True
        return False


def check_environment() -> None:
    """Find out whether requests can be made at all with this environment's proxies, certificates and token.

    Raises NetworkError.
    """
    from huggingface_hub import get_session, get_token

    if not (host().isascii() and host().isprintable()):
        raise NetworkError(
            "the address of the Hub holds characters that no address has", host(), "set HF_ENDPOINT again"
        )
    library = import_module(_transport_error().__module__.partition(".")[0])
    try:
        get_session()  # makes the client, which reads the variables
    except (ImportError, ValueError, OSError, library.InvalidURL) as error:
        hint = "see HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        raise NetworkError(f"no connection can be set up as the environment says: {error}", host(), hint) from error
    token = get_token()
    if token is not None and not (token.isascii() and token.isprintable()):
        what = "the token of the Hub holds characters that no token has"
        raise NetworkError(what, host(), "set HF_TOKEN again, or log in with `hf auth login`")


def _transport_error() -> type[Exception]:
    """The base of all that can go wrong between here and the server.

    httpx's HTTPError under version 1 of huggingface_hub, httpx2's under version 2.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__[0]


def find_file(url: str, repository: str, path: str, patience: Patience) -> RemoteFile:
    """A file at an address of its own, whose sha256 is not known: its size, and what the server says of its bytes.

    Raises NetworkError: the server cannot be reached, refuses, or does not say how large it is.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # lazy there

    def ask() -> Any:
        with _translated(repository, "", url):
            response = get_session().head(
                url, headers=_ASKING, timeout=constants.HF_HUB_ETAG_TIMEOUT, follow_redirects=True
            )
            hf_raise_for_status(response)
            return response.headers

    check_environment()
    headers = patiently(ask, patience)
    size = str(headers.get("Content-Length", ""))
    if not re.fullmatch(r"\d{1,15}", size):
        raise NetworkError("the server does not say how large this file is", url)
    return RemoteFile(repository=repository, commit="", path=path, size=int(size), etag="", url=url, md5=_md5(headers))


def _md5(headers: Any) -> bytes | None:
    """The MD5 of all bytes, as a server may state it."""
    try:
        stated = base64.b64decode(str(headers.get("Content-MD5", "")), validate=True)
    except ValueError:
        return None
    return stated if len(stated) == 16 else None


def host() -> str:
    """The address of the Hub in use."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


@contextmanager
def _translated(repository: str, revision: str, url: str | None = None) -> Iterator[None]:
    """Turn the errors of huggingface_hub and its HTTP library into ours. `url` is that of a file in no repository."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    transport_error = _transport_error()
    try:
        yield
    except OfflineModeIsEnabled as error:
        hint = "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to fetch it"
        raise NetworkError(
            f"{repository} is not on this machine, and HF_HUB_OFFLINE forbids fetching it", url or host(), hint
        ) from (error)
    except HfHubHTTPError as error:
        raise (_refusal(error, repository, revision) if url is None else _refused_file(error, url)) from error
    except transport_error as error:
        reason = str(error) if str(error) else type(error).__name__
        hint = "check the connection, and run the same command again: it goes on where it stopped"
        there = "the Hub" if url is None else "the server"
        raise Dropped(NetworkError(f"the connection to {there} failed: {reason}", url or host(), hint)) from error


def _refused_file(error: Any, url: str) -> Exception:
    """The error for a response that is not 2xx, of a server that is not the Hub."""
    status = int(error.response.status_code)
    failed = NetworkError(f"the server answers {status} for this file", url, "try again later")
    return Dropped(failed, _retry_after(error.response.headers.get("Retry-After", ""))) if status in RETRIED else failed


def _refusal(error: Any, repository: str, revision: str) -> Exception:
    """The error for a response that is not 2xx."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = int(error.response.status_code)
    token = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        hint = f"accept its terms at {host()}/{repository}, then {token}"
        return NetworkError(f"{repository} is available only to those who accept its terms", host(), hint)
    if isinstance(error, RevisionNotFoundError):
        return UnknownModel(f"{repository} has no revision {revision}", host())
    if isinstance(error, RepositoryNotFoundError):
        return UnknownModel(f"there is no {repository}, or it is private", host(), f"if it is private, {token}")
    if status in (401, 403):
        return NetworkError(f"the Hub refuses {repository} ({status})", host(), token)
    if status in RETRIED:
        asked = _retry_after(error.response.headers.get("Retry-After", ""))
        what, hint = f"the Hub is in trouble ({status})", "try again later: the same command goes on where it stopped"
        if status == 429:
            what, hint = "the Hub has had too many requests from here (429)", f"{hint}; a token raises the limit"
        failure = NetworkError(what, host(), hint)
        return failure if asked is not None and asked > LONGEST_WAIT else Dropped(failure, asked)
    return NetworkError(f"the Hub answers {status} for {repository} at {revision}", host())


def _retry_after(stated: str) -> float | None:
    return float(stated) if re.fullmatch(r"\d{1,6}", stated) else None


def _listing(repository: str, facts: Mapping[str, Any]) -> Listing:
    commit, siblings, tags = facts.get("sha"), facts.get("siblings"), facts.get("tags")
    if not isinstance(commit, str) or not re.fullmatch(COMMIT, commit) or not isinstance(siblings, list):
        raise NetworkError("the server does not answer as the Hub does: no commit, or no files", host(), LOGIN)
    if len(siblings) > LISTING_FILES:
        raise BadFolder(f"this repository has {len(siblings)} files, the limit is {LISTING_FILES}", repository)
    files = {}
    for sibling in siblings:
        file = _remote(repository, commit, sibling) if isinstance(sibling, dict) else None
        if file is not None:
            files[file.path] = file
    plain = (tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()
    licence = next((tag.partition(":")[2][:LONGEST_LICENCE] for tag in plain if tag.startswith("license:")), None)
    return Listing(repository=repository, commit=commit, licence=licence, files=files)


def _remote(repository: str, commit: str, sibling: Mapping[str, Any]) -> RemoteFile | None:
    """A file as the Hub lists it; None for one with an unusual name, or without a size or digest."""
    lfs, path = sibling.get("lfs"), sibling.get("rfilename")
    if isinstance(lfs, dict):
        etag, size = lfs.get("sha256"), lfs.get("size")
    else:
        etag, size = sibling.get("blobId"), sibling.get("size")
    if not isinstance(path, str) or len(path) > LONGEST_PATH or not re.fullmatch(PATH, path, re.ASCII):
        return None
    if type(size) is not int or size < 0 or not isinstance(etag, str) or not re.fullmatch(DIGEST, etag):
        return None
    return RemoteFile(repository=repository, commit=commit, path=path, size=size, etag=etag)
