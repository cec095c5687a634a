"""Networks and functions that compute the same bits on every machine."""
