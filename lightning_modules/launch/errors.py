"""One line for every error that a user can mend, with the nearest name where one was mistyped."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
)
from omegaconf.errors import OmegaConfBaseException

from lightning_modules.errors import UserError
from lightning_modules.launch.mistyped import close, suggestion, unknown_setting

EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray", "optuna": "optuna"}
"""Launchers and sweepers that are plugins of Hydra's: the extra of ours that installs each."""


def explain(error: BaseException) -> str | None:
    """Return one line for what a user can mend; None for our own faults, which deserve their traceback."""
    for cause in causes(error):
        if isinstance(cause, _mendable()):
            return _joined(cause)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_choice(error)
    if isinstance(error, InstantiationException):
        return _not_built(error)
    if isinstance(error, ConfigCompositionException):
        text = " ".join(_joined(cause) for cause in causes(error))
        return unknown_setting(text) or text
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        text = str(error).split("full_key")[0]
        return " ".join(text.removeprefix(f"{UserError.__name__} raised while resolving interpolation: ").split())
    return None


def one_line(error: BaseException) -> str:
    """Return the line of `explain`, or for our own faults their class and first line."""
    return explain(error) or f"{type(error).__name__}: {error}".partition("\n")[0]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__


def _mendable() -> tuple[type[BaseException], ...]:
    """Return the classes whose message is for users: ours, and Lightning's own where Lightning is imported."""
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    return (UserError, lightning.MisconfigurationException) if lightning else (UserError,)


def _not_built(error: InstantiationException) -> str | None:
    """Return the line of an object that refuses its settings, or whose package is not there; None for other faults."""
    key = str(error).rpartition("full_key: ")[2]
    missing = next((cause.name for cause in causes(error) if isinstance(cause, ModuleNotFoundError)), None)
    if missing is not None:
        return f"{key}: there is no package {missing}; install it, or put the folder that holds it into PYTHONPATH"
    return f"{key}: {_joined(error.__cause__)}" if isinstance(error.__cause__, ValueError) else None


def _missing_choice(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    if name in EXTRAS and group.startswith("hydra/"):
        return f"{group}={name}: its plugin is not installed; pip install -e .[{EXTRAS[name]}]"
    options = [str(option) for option in error.options or []]
    what = f"no {group or 'configuration'} named {name}{suggestion(close(name, options))}"
    return f"{what}; {group}= takes one of: {', '.join(options)}"


def _joined(error: BaseException | None) -> str:
    return " ".join(str(error).split())
