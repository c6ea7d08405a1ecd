"""Where dalle keeps what is its own: the config file, the history, digests of models, scores of unfinished best-ofs,
and the pictures of the page.

All in DALLE_HOME if that is set, else where the platform keeps such files. A container may give a process neither a
HOME nor a name; then there is no such place, and pictures are painted all the same.
"""

import os
from pathlib import Path
from typing import Final, Literal

SET_ONE: Final = "set DALLE_HOME or HOME to a folder"
"""What to do where there is no place."""

NOWHERE: Final = "this user has no home folder"


def own_folder(kind: Literal["config", "state", "cache", "data"], name: str = "dalle") -> Path | None:
    """The folder for a kind of file, which need not exist; None where there is no place for any."""
    home = os.environ.get("DALLE_HOME")
    if home and name == "dalle":
        return Path(home)
    import platformdirs

    find = {
        "config": platformdirs.user_config_path,
        "state": platformdirs.user_state_path,
        "cache": platformdirs.user_cache_path,
        "data": platformdirs.user_data_path,
    }[kind]
    try:
        folder = find(name, appauthor=False)
    except RuntimeError:  # no HOME, and no entry of this user in the system's list
        return None
    # Older versions of platformdirs answer with a folder called "~".
    return folder if folder.is_absolute() else None
