"""`dalle` on a slow disk: `slow_disk.py SECONDS ARGUMENTS…`; every fsync takes so long before it begins."""

import os
import sys
import time

from dallecli.cli.app import run

if __name__ == "__main__":
    real, seconds = os.fsync, float(sys.argv[1])

    def slow(descriptor: int) -> None:
        time.sleep(seconds)
        real(descriptor)

    os.fsync = slow
    sys.exit(run(sys.argv[2:]))
