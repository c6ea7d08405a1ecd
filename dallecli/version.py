"""The version, for everybody: the package itself stands above the rooms that need it."""

__version__ = "0.1.0"
