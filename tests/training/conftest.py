"""What the tests of training share."""

import resource
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes of a file fail, as it does on a disk that is full (EFBIG for ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def few_bytes_and_seconds(megabytes: int = 64, seconds: float = 10) -> Iterator[None]:
    """Fail if what is done inside takes more memory of Python's, or more processor time, than this."""
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        taken, most = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most <= megabytes * 2**20, f"{most / 2**20:.0f} MiB"
    assert taken <= seconds, f"{taken:.1f} s"
