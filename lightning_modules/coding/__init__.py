"""Entropy coding and files: integer tables, the ANS stack, the `.lpc` container, lossless side data."""
