"""dalle: an open DALL-E 2 for the shell. Import nothing heavy here: `dalle --help` passes through this file."""

__version__ = "0.1.0"
