"""How much is read of anything that comes from outside, and how long is waited for it: every bound, in one place.

Each is checked before the work that it bounds: before a file is read, a picture decoded, a network built, or a picture
painted. Those are the most of what is useful, with room to spare, and not what a machine can just bear. `TABLE` is the
page docs/reference/limits.md.
"""

import os
import select
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30

# Prompts and prompt files

PROMPT_BYTES: Final = 32 * KIB
CAPTION_CHARACTERS: Final = 4096
LINE_BYTES: Final = MIB
PROMPT_FILE_BYTES: Final = GIB
LIST_BYTES: Final = 16 * MIB
PIPE_SECONDS: Final = 10
COUNT_LIMIT: Final = 1000
KEPT_PIXELS: Final = 2**28
CANDIDATES: Final = 256
REUSE_LIMIT: Final = 100

# Pictures and embeddings

PICTURE_BYTES: Final = 256 * MIB
SIDE_LIMIT: Final = 16_384
PIXEL_LIMIT: Final = 64 * MIB
SCANS: Final = 100
PROFILE_BYTES: Final = 16 * MIB
SHEET_PIXELS: Final = 200_000_000
RECIPE_BYTES: Final = 60 * KIB
EMBEDDING_HEADER_BYTES: Final = 64 * KIB
CODES_SIDE: Final = 256

# Models

MODEL_JSON_BYTES: Final = MIB
MODEL_NUMBER: Final = 2**20
MODEL_DEPTH: Final = 512
MODEL_LEVELS: Final = 6
LATENT_CHANNELS: Final = 64
MODEL_SIDE: Final = 4096
PAINTED_SIDE: Final = 2048
NETWORK_TIMES: Final = 2
HEADER_BYTES: Final = 16 * MIB
TENSORS: Final = 20_000
TENSOR_NAME: Final = 512
TOKENIZER_BYTES: Final = 8 * MIB
TOKENS: Final = 2**18
NORMAL_BYTES: Final = 256
SHARDS: Final = 256
SHARD_INDEX_BYTES: Final = 4 * MIB
FLAX_DEPTH: Final = 16

# The Hub, and checkpoints that are converted

LISTING_BYTES: Final = 8 * MIB
LISTING_FILES: Final = 10_000
MODEL_FILES: Final = 500
REDIRECTS: Final = 10
ANSWER_SECONDS: Final = 60.0
RATE_BYTES: Final = 64 * KIB
RATE_SECONDS: Final = 60.0
CHECKPOINT_TIMES: Final = 4
DIRECTORY_BYTES: Final = 16 * MIB
CHECKPOINT_SPARE: Final = 512 * MIB
CHECKPOINT_SECONDS: Final = 120
CHECKPOINT_RATE: Final = 4 * MIB

# What dalle keeps

SETTINGS_BYTES: Final = MIB
NOTE_BYTES: Final = 64 * KIB
HISTORY_BYTES: Final = MIB
JOURNAL_BYTES: Final = 8 * GIB
ENTRY_BYTES: Final = 4 * MIB

# The server

BODY_BYTES: Final = 64 * MIB
JSON_BYTES: Final = MIB
JSON_PARTS: Final = 10_000
FIELD_BYTES: Final = 64 * KIB
FORM_FIELDS: Final = 64
FORM_FILES: Final = 17
HELD_BYTES: Final = 256 * MIB
HEADERS_BYTES: Final = 16 * KIB
HEADERS_SECONDS: Final = 10.0
BODY_RATE_BYTES: Final = 10 * KIB
BODY_SPARE_SECONDS: Final = 10.0
SEND_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 30
CONNECTIONS: Final = 256
API_COUNT: Final = 10
API_SIDE: Final = 4096
QUEUE_PICTURES: Final = 32
RETRY_SECONDS: Final = 60
FILE_SECONDS: Final = 3600
FILES_BYTES: Final = 256 * MIB
IDEMPOTENCY_KEY_CHARACTERS: Final = 255
REPEATS: Final = 1000
REPEATS_SECONDS: Final = 600
REPEATS_BYTES: Final = 128 * MIB
TOKEN_BYTES: Final = 4 * KIB
GALLERY_FILES: Final = 20_000
GALLERY_BYTES: Final = 64 * MIB
HEAD_BYTES: Final = 128 * KIB
SHOWN_CHARACTERS: Final = 2_000
PAGE_JOBS: Final = 50
PAGE_JOB_SECONDS: Final = 600

# Rewriting

REWRITTEN_CHARACTERS: Final = 2000
CHAT_BYTES: Final = MIB
CHAT_SECONDS: Final = 120.0

# A server that is used

CONNECT_SECONDS: Final = 10.0
HEALTH_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 60.0
FRAME_BYTES: Final = MIB
FRAME_DATA_BYTES: Final = 3 * PIXEL_LIMIT
INPUTS_BYTES: Final = 512 * MIB
INPUT_SECONDS: Final = 3600
TOGETHER: Final = 64
# A cluster

CLUSTER_BYTES: Final = GIB
CLUSTER_SECONDS: Final = 600.0

# Training

CAPTION_BYTES: Final = MIB
ALBUM_INDEX_BYTES: Final = GIB

TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "Prompts and prompt files": {
        "PROMPT_BYTES": "a prompt, in UTF-8",
        "CAPTION_CHARACTERS": "characters of a prompt that are looked at for a model which reads captions of web pages",
        "LINE_BYTES": "a line of a prompt file, or a row of a table",
        "PROMPT_FILE_BYTES": "a prompt file, also from a pipe or standard input",
        "LIST_BYTES": "a list of a wildcard",
        "PIPE_SECONDS": "seconds until something comes through a named pipe; it may then take as long as it likes",
        "COUNT_LIMIT": "pictures, frames, or places on a sheet of one request",
        "KEPT_PIXELS": "pixels that all pictures of one request have together: they are kept for their sheet",
        "CANDIDATES": "embeddings that the prior draws for a picture, all at once",
        "REUSE_LIMIT": "steps of which one computes the whole network, and the others its uppermost level",
    },
    "Pictures and embeddings": {
        "PICTURE_BYTES": "a picture, a mask, or an embedding, as a file",
        "SIDE_LIMIT": "pixels on a side of a picture",
        "PIXEL_LIMIT": "pixels of a picture",
        "SCANS": "scans of a progressive JPEG: each is worth a whole decoding",
        "PROFILE_BYTES": "a colour profile in a PNG, unpacked; a larger one is ignored",
        "SHEET_PIXELS": "pixels of a sheet",
        "RECIPE_BYTES": "a recipe in a picture",
        "EMBEDDING_HEADER_BYTES": "the header of an embedding, or of codes",
        "CODES_SIDE": "codes on a side of a picture",
    },
    "Models": {
        "MODEL_JSON_BYTES": "a `config.json`, `model_index.json`, lock, or any other description of a model",
        "MODEL_NUMBER": "any number in a config",
        "MODEL_DEPTH": "layers of a network, or of a block of it",
        "MODEL_LEVELS": "levels of an autoencoder",
        "LATENT_CHANNELS": "channels of latents",
        "MODEL_SIDE": "pixels on a side, of what a config says is painted",
        "PAINTED_SIDE": "pixels on a side, of what is asked of a model that paints any size",
        "NETWORK_TIMES": "times as many numbers as the weights file has, which a config may ask for",
        "HEADER_BYTES": "the header of a `.safetensors` file",
        "TENSORS": "tensors of a `.safetensors` file, or arrays of a `flax_model.msgpack`",
        "TENSOR_NAME": "characters in the name of a tensor",
        "TOKENIZER_BYTES": "a `vocab.json`, `merges.txt`, `tokenizer.json`, or `spiece.model`",
        "TOKENS": "tokens of a vocabulary; merges are no more",
        "NORMAL_BYTES": "what a character is read as, by the rules of a `spiece.model`",
        "SHARDS": "files into which the weights of a network are split",
        "SHARD_INDEX_BYTES": "the index of those",
        "FLAX_DEPTH": "maps within each other in a `flax_model.msgpack`",
    },
    "The Hub, and checkpoints that are converted": {
        "LISTING_BYTES": "the Hub's listing of a repository",
        "LISTING_FILES": "files of a repository",
        "MODEL_FILES": "files of a repository that a model needs",
        "REDIRECTS": "redirects before an answer",
        "ANSWER_SECONDS": "seconds until the Hub's listing is there, or the first byte of a file, redirects included",
        "RATE_BYTES": "bytes that come of a file at least, in every",
        "RATE_SECONDS": "seconds",
        "CHECKPOINT_TIMES": "times as many bytes as a pickled checkpoint has, which its tensors may have together",
        "DIRECTORY_BYTES": "the list of a checkpoint's members; they are no more than two for each of `TENSORS`",
        "CHECKPOINT_SPARE": "memory beside those, in which it is converted",
        "CHECKPOINT_SECONDS": "seconds in which it is converted, and one more for every",
        "CHECKPOINT_RATE": "bytes of it",
    },
    "What dalle keeps": {
        "SETTINGS_BYTES": "the config file, a preset for training",
        "NOTE_BYTES": "a note of a process or a digest",
        "HISTORY_BYTES": "a text in the history",
        "JOURNAL_BYTES": "a journal",
        "ENTRY_BYTES": "a line of a journal; a longer one is passed over",
    },
    "The server": {
        "BODY_BYTES": "the body of an HTTP request",
        "JSON_BYTES": "one in JSON of a request without pictures",
        "JSON_PARTS": "values in a JSON body, and characters that could separate some",
        "FIELD_BYTES": "a field of a form that is no file",
        "FORM_FIELDS": "fields of a form",
        "FORM_FILES": "files of a form",
        "HELD_BYTES": "bodies of all requests together, while they are read, waiting or painted",
        "HEADERS_BYTES": "the headers of a request",
        "HEADERS_SECONDS": "seconds from a request's first byte to the end of its headers",
        "BODY_RATE_BYTES": "bytes a second at which a body has to come, after",
        "BODY_SPARE_SECONDS": "seconds",
        "SEND_SECONDS": "seconds for which a client may not read the answer that it asked for",
        "IDLE_SECONDS": "seconds for which a connection is kept without a request",
        "CONNECTIONS": "connections at once",
        "API_COUNT": "pictures of one request",
        "API_SIDE": "pixels on a side of a picture that is asked for",
        "QUEUE_PICTURES": "pictures that wait to be painted, if `--queue` does not say",
        "RETRY_SECONDS": "seconds after which a client is told to try again",
        "FILE_SECONDS": "seconds for which a picture is kept under its URL",
        "FILES_BYTES": "all pictures that are kept so",
        "IDEMPOTENCY_KEY_CHARACTERS": "characters of an `Idempotency-Key`",
        "REPEATS": "answers that are kept under such keys",
        "REPEATS_SECONDS": "seconds for which one is kept so",
        "REPEATS_BYTES": "all of them together",
        "TOKEN_BYTES": "the file of a token",
        "GALLERY_FILES": "files of a folder that the page looks at; if there are more, it says so",
        "GALLERY_BYTES": "a picture that the page shows",
        "HEAD_BYTES": "the beginning of a PNG, in which its recipe is looked for first",
        "SHOWN_CHARACTERS": "characters of a prompt in the page's list of pictures",
        "PAGE_JOBS": "jobs of the page that are over and still told of",
        "PAGE_JOB_SECONDS": "seconds for which they are",
    },
    "Rewriting": {
        "REWRITTEN_CHARACTERS": "characters of a sentence that was rewritten",
        "CHAT_BYTES": "an answer of a language model, with all that its server says around it",
        "CHAT_SECONDS": "seconds until the whole of it is there",
    },
    "A server that is used": {
        "CONNECT_SECONDS": "seconds until a server or a cluster is reached",
        "HEALTH_SECONDS": "the same for `--server auto`, which then paints here",
        "SILENCE_SECONDS": "seconds without a word of the server, which says something every ten",
        "FRAME_BYTES": "a line of an answer",
        "FRAME_DATA_BYTES": "the pixels or numbers behind one",
        "INPUTS_BYTES": "all pictures and embeddings that a server keeps for those who use it",
        "INPUT_SECONDS": "seconds for which it keeps one that nobody asks for",
        "TOGETHER": "recipes of one message",
    },
    "A cluster": {
        "CLUSTER_BYTES": "all inputs and pictures that are on the way to workers and back",
        "CLUSTER_SECONDS": "seconds without any worker, after which a batch ends; it can be resumed",
    },
    "Training": {
        "CAPTION_BYTES": "the file of a caption",
        "ALBUM_INDEX_BYTES": "the index of decoded pictures",
    },
}
"""What each bound is of, by page section."""

_KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class Unfit(OSError):
    """A file that is none, or larger than it may be; the message says so, with the bound."""


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a regular file that has at most `most`; a pipe or device is neither waited for nor read.

    Raises: OSError, as Unfit if it is no such file.
    """
    with open_file(path) as file:
        return read_stream(file, most)


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading, and nothing else. Raises: OSError, as Unfit if it is another kind."""
    file = _opened(path)
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise Unfit(f"it is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, and not a file")
    return file


def read_stream(stream: BinaryIO, most: int) -> bytes:
    """All bytes of a stream that has at most `most`. Raises: OSError, as Unfit if there are more."""
    try:
        size = os.fstat(stream.fileno()).st_size
    except OSError:  # in memory
        size = 0
    if size > most or len(data := stream.read(most + 1)) > most:
        raise Unfit(f"it has more than {in_words(most)}")
    return data


def open_stream(path: Path) -> BufferedReader:
    """Open a regular file or a pipe that somebody writes into, and no device.

    A named pipe is waited for `PIPE_SECONDS` until something is in it; one that a shell made (`<(…)`) has a writer.

    Raises: OSError, as Unfit if it is another kind, or nothing comes.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISFIFO(mode):
            if os.path.lexists(os.path.realpath(path)) and not _comes(file):
                raise Unfit(f"nothing came through this pipe in {PIPE_SECONDS} seconds")
            os.set_blocking(file.fileno(), True)
        elif not stat.S_ISREG(mode):
            raise Unfit(f"it is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, and not a file")
        stack.pop_all()
    return file


def _opened(path: Path) -> BufferedReader:
    return open(path, "rb", opener=_at_once)


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting, as a pipe would have us do until somebody writes into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _comes(file: BinaryIO) -> bool:
    readable, _, _ = select.select([file], [], [], PIPE_SECONDS)
    return bool(readable)


def in_words(size: int) -> str:
    """A number of bytes as people read it, exactly: 256 MiB, 1000 bytes."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
