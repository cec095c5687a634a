"""Named by `from tests...`, before any other package of that name that a library brings."""
