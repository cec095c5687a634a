"""Hydra's side of a run: composing, building, resuming, sweeping, and errors in one line."""
