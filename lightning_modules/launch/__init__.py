"""Hydra's side of a run: composing, building, resuming, sweeping, and errors in one line.

Importing anything of it registers what configurations need before they are composed.
"""

from lightning_modules.launch import groups, resolvers

__all__ = ["groups", "resolvers"]
