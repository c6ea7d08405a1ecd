"""The second world: a hundred and five things, each drawn by up to four artists, mirrored, in many sizes and places."""
