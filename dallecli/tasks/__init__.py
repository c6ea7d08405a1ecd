"""What can be asked of a model, a task a file, and the one builder of requests."""
