"""Pull a model: from the Hub into the Hugging Face cache, every byte checked, and whole or not at all.

What the Hub says about a file (its sha256, or for small ones git's SHA-1) is asked first and written into the lock;
then the bytes are fetched and compared with it. A pull that stops anywhere goes on where it stopped: what has arrived
of a file stays under a name of its own, and is hashed again before more is added. Bytes that are wrong are set aside
and never take the file's name. A file that another model in the cache already has is linked, not fetched.

    pull.py         the whole of it, in order
    plan.py         which files, and whether they fit
    download.py     the bytes of one file
    cache.py        where they are put, and under which locks
    verify.py       whether they are still right
    remove.py       what nobody needs any more
    progress.py     how far it is, for whoever watches
"""
