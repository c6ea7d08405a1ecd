"""Pulling a model from the Hub into the Hugging Face cache: every byte checked, and whole or not at all.

First the Hub is asked for the digest of every file (its sha256, or git's SHA-1 of a small one), which is written into
the lock; then the bytes are fetched and compared with it. An interrupted pull continues where it stopped: what has
arrived of a file is kept under a name of its own, and is hashed again before more is added. Wrong bytes are set aside
and never get the file's name. A file that another model in the cache has already is linked, not fetched.

    pull.py         the whole pull, in order
    plan.py         which files are needed, and whether they fit
    download.py     the bytes of one file
    cache.py        where they are put, and under which locks
    verify.py       whether they are still right
    remove.py       what is not needed any more
    progress.py     how far a pull is
"""
