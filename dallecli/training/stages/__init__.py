"""The stages of a model's training, one a file: its networks, its objective, how it is taught, what it writes."""
