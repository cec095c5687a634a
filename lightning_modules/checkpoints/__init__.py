"""Weights from elsewhere, and models as files: import, package, find by fingerprint."""
