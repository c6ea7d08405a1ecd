"""What was pulled, written down: which files of which commit, their sizes and sha256. One JSON file a model.

The lock is written when a pull has been planned, before any byte is fetched, so that an interrupted pull continues with
the same commit even if the branch has moved. It lies beside the Hugging Face cache, as does the model's folder, whose
files are links into the cache:

    $HF_HOME/hub/                        the Hugging Face cache, as every program knows it
    $HF_HOME/dalle/karlo.lock.json       this file
    $HF_HOME/dalle/karlo/                the model in the published layout, complete or absent
    $HF_HOME/dalle/converted/            converted pickles, as safetensors, named by sha256
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from dallecli.errors import BadFile
from dallecli.fields import Fields, Wording
from dallecli.publish import replacing
from dallecli.weights.digest import file_digest
from dallecli.weights.folder import PICKLES, read_object
from dallecli.weights.hub import COMMIT, DIGEST, PATH, REPOSITORY, RemoteFile
from dallecli.weights.hub_constants import hub_constants

FORMAT: Final = "dalle-lock/1"
SUFFIX: Final = ".lock.json"

WORDING: Final = Wording(
    missing="this lock file is damaged: {path} is missing",
    wrong="this lock file is damaged: {path} is {value}, not {wanted}",
    unknown="this lock file is damaged: it also holds {path}",
    hint="remove it, and pull the model again",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file of a model, and the file of the Hub that it is made of."""

    path: str
    """In the model's folder."""
    repository: str
    source: str
    """The file's path in the repository."""
    size: int
    """Bytes of the file in the repository."""
    etag: str
    """The Hub's name for them: see `RemoteFile`."""
    sha256: str | None = None
    """Of the bytes under `path`, in hex; None until they have been here."""
    ours: bool
    """Whether a removal may delete them: they were not in the cache before the first pull."""
    made: bool = False
    """Whether it was made, by a pull, of a file that is in no repository of the Hub. Then `etag` is the sha256 of that
    file, which is not kept, and `size` the bytes under `path`."""

    @property
    def pickled(self) -> bool:
        """Whether it is published as a pickle, of which the conversion is kept."""
        return self.source.endswith(PICKLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A pulled model."""

    model: str
    licence: str | None
    commits: Mapping[str, str]
    """Of each repository."""
    tasks: tuple[str, ...]
    """What it was pulled for, sorted; none is everything."""
    half: bool
    """Whether half precision was asked for."""
    files: tuple[LockedFile, ...]
    """Sorted by path."""

    def blob(self, file: LockedFile) -> Path:
        """Where the bytes of a file lie: in the cache, or among the converted ones."""
        if file.pickled or file.made:
            return converted(file.sha256 if file.sha256 is not None else "unknown", Path(file.path).suffix)
        return cached(file.repository, file.etag)

    def remote(self, file: LockedFile) -> RemoteFile:
        """The file of the Hub that a file is made of."""
        return RemoteFile(
            repository=file.repository,
            commit=self.commits[file.repository],
            path=file.source,
            size=file.size,
            etag=file.etag,
        )

    def missing(self) -> list[LockedFile]:
        """The files that are not here in full, judged by presence and size alone.

        The lock does not have the sizes of converted files; their headers are checked when they are read.
        """
        return [file for file in self.files if not self._here(file)]

    def _here(self, file: LockedFile) -> bool:
        try:
            size = self.blob(file).stat().st_size
        except OSError:
            return False
        return file.sha256 is not None and (file.pickled or size == file.size)

    def with_file(self, changed: LockedFile) -> "Lock":
        """The same lock with the entry of one file replaced."""
        return replace(self, files=tuple(changed if file.path == changed.path else file for file in self.files))

    def write(self) -> None:
        """Replace the lock file in one step. Raises: OSError."""
        path = lock_path(self.model)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode())


def home() -> Path:
    """Where locks and the folders of pulled models lie, beside the Hugging Face cache."""
    return Path(hub_constants().HF_HOME) / "dalle"


def folder_path(model: str) -> Path:
    """Where the folder of a pulled model lies; hf:ORG/NAME@REVISION becomes a folder's name, each its own."""
    name = model.replace("hf:", "hf--", 1).replace("/", "--", 1)
    return home() / quote(name, safe="@", errors="surrogateescape")


def lock_path(model: str) -> Path:
    """Where the lock of a model lies."""
    folder = folder_path(model)
    return folder.with_name(folder.name + SUFFIX)


def repository_cache(repository: str) -> Path:
    """A repository's folder in the Hugging Face cache."""
    return Path(hub_constants().HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def cached(repository: str, etag: str) -> Path:
    """Where the Hugging Face cache keeps the bytes that the Hub calls `etag`."""
    return repository_cache(repository) / "blobs" / etag


def converted(sha256: str, suffix: str = ".safetensors") -> Path:
    """Where a converted file lies."""
    return home() / "converted" / f"{sha256}{suffix}"


def read_lock(model: str) -> Lock | None:
    """The lock of a model; None if it was never pulled.

    Raises:
        BadFile: the lock file cannot be read, or is not one.
    """
    path = lock_path(model)
    return _read(path) if path.is_file() else None


def check_bytes(model: str) -> None:
    """Compare the files of a pulled model with its lock; does nothing for a model that was not pulled.

    The first time every byte is read, later only changed files (see digest.py).

    Raises:
        BadFile: a file is not what was pulled.
    """
    lock = read_lock(model)
    for file in () if lock is None else lock.files:
        path = folder_path(model) / file.path
        if file_digest(path) != file.sha256:
            raise BadFile(
                "the bytes of this file are not those that were pulled", str(path), f"dalle models pull {model}"
            )


def all_locks() -> list[Lock]:
    """The locks of all pulled models; files that are not valid locks are left out."""
    locks = []
    for path in sorted(home().glob(f"*{SUFFIX}")):
        try:
            locks.append(_read(path))
        except BadFile:
            continue
    return locks


def _read(path: Path) -> Lock:
    content = read_object(path)
    if content.pop("format", None) != FORMAT:
        raise BadFile("this is not a lock file of this version", str(path), WORDING.hint)
    fields = Fields(content, BadFile, where=str(path), wording=WORDING)
    commits = fields.table("commits")
    lock = Lock(
        model=fields.text("model"),
        licence=fields.text("licence", optional=True),
        # The names decide which files are read, linked and removed.
        commits={_matching(name, REPOSITORY, commits): commits.match(name, COMMIT, "a commit") for name in commits},
        tasks=fields.texts("tasks"),
        half=fields.flag("half"),
        files=tuple(_read_file(entry) for entry in fields.tables("files")),
    )
    fields.finish()
    if lock_path(lock.model) != path:
        raise fields.wrong("model", lock.model, "the model of this file's name")
    return lock


def _matching(name: str, pattern: str, fields: Fields) -> str:
    if not re.fullmatch(pattern, name, re.ASCII):
        raise fields.wrong(name, name, "the name of a repository")
    return name


def _read_file(fields: Fields) -> LockedFile:
    file = LockedFile(
        path=fields.match("path", PATH, "the name of a file"),
        repository=fields.match("repository", REPOSITORY, "the name of a repository"),
        source=fields.match("source", PATH, "the name of a file"),
        size=fields.whole("size", least=0),
        etag=fields.match("etag", DIGEST, "a digest"),
        sha256=None if fields.null("sha256") else fields.match("sha256", DIGEST, "a digest"),
        ours=fields.flag("ours"),
        made=fields.flag("made") if "made" in fields else False,
    )
    fields.finish()
    return file
