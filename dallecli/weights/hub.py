"""The Hugging Face Hub: what a repository holds, and the bytes of a file from any offset on.

Everything goes through huggingface_hub's own session, so its variables (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, proxies)
and a configured client are honoured. Only the reading is ours: huggingface_hub 2.4 loses a partly fetched file when its
process ends, and accepts any bytes of the right number.

huggingface_hub is imported inside functions only: short commands have no time for it.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, TypeVar

from dallecli.errors import DalleError, NetworkError, UnknownModel

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
        NetworkError: the Hub cannot be reached, refuses, or does not answer as the Hub does.
    """
    from huggingface_hub import HfApi, constants

    check_environment()

    def ask() -> Any:
        try:
            with _translated(repository, revision):
                return HfApi().model_info(
                    repository, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
                )
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # huggingface_hub trusts that it is the Hub
            what = "the server does not answer as the Hub does"
            raise NetworkError(what, host(), "is there a login page in between?") from error

    return _listing(repository, patiently(ask, patience))


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
def reading(file: RemoteFile, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The bytes of a file as they arrive, and the offset at which they start: `offset`, or 0.

    Raises:
        Dropped: the connection failed, now or while the bytes are read; a later request may succeed.
        UnknownModel, NetworkError: as `list_files`.
    """
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # lazy there

    check_environment()
    # Compressed, the offset would count other bytes.
    headers = {**build_hf_headers(library_name="dallecli"), "Accept-Encoding": "identity"}
    if offset > 0:
        headers["Range"] = f"bytes={offset}-"
    url = hf_hub_url(file.repository, file.path, revision=file.commit)
    with (
        _translated(file.repository, file.commit),
        get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response,
    ):
        if response.status_code == 416:  # nothing at this offset: what we have is not the start of this file
            yield 0, iter(())
            return
        hf_raise_for_status(response)
        stated = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        start = int(stated[1]) if response.status_code == 206 and stated is not None else 0
        if start not in (0, offset):
            raise NetworkError(f"the server answered with byte {start} instead of {offset}", host())
        yield start, response.iter_bytes()


def check_environment() -> None:
    """Find out whether requests can be made at all with this environment's proxies, certificates and token.

    Raises NetworkError.
    """
    from huggingface_hub import get_session, get_token

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


def host() -> str:
    """The address of the Hub in use."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


@contextmanager
def _translated(repository: str, revision: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub and its HTTP library into ours."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    transport_error = _transport_error()
    try:
        yield
    except OfflineModeIsEnabled as error:
        hint = "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to fetch it"
        raise NetworkError(
            f"{repository} is not on this machine, and HF_HUB_OFFLINE forbids fetching it", host(), hint
        ) from (error)
    except HfHubHTTPError as error:
        raise _refusal(error, repository, revision) from error
    except transport_error as error:
        reason = str(error) if str(error) else type(error).__name__
        hint = "check the connection, and run the same command again: it goes on where it stopped"
        raise Dropped(NetworkError(f"the connection to the Hub failed: {reason}", host(), hint)) from error


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


def _listing(repository: str, info: Any) -> Listing:
    commit = info.sha
    if not isinstance(commit, str) or not re.fullmatch(COMMIT, commit) or info.siblings is None:
        raise NetworkError("the server does not answer as the Hub does: no commit, or no files", host())
    files = {}
    for sibling in info.siblings:
        etag = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
        size = sibling.lfs.size if sibling.lfs is not None else sibling.size
        path = str(sibling.rfilename)
        plain = re.fullmatch(PATH, path, re.ASCII)
        if plain and type(size) is int and size >= 0 and re.fullmatch(DIGEST, str(etag)):
            files[path] = RemoteFile(repository=repository, commit=commit, path=path, size=size, etag=str(etag))
    tags = info.tags if info.tags is not None else []
    licence = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), None)
    return Listing(repository=repository, commit=commit, licence=licence, files=files)
