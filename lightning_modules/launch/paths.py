"""Where configurations are, and the command that does one job of a sweep."""

from __future__ import annotations

import sys
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"
JOB_COMMAND = (sys.executable, str(REPOSITORY / "run.py"))
"""Does the job of a sweep that its environment names."""


def folders_of_command() -> list[Path]:
    """Return the folders of configurations of this command line, those that count first in front: ours is the last."""
    options, _ = get_args_parser().parse_known_args()
    return [CONF] if options.config_dir is None else [Path(options.config_dir).resolve(), CONF]


def folders_of_run() -> list[Path]:
    """Return the same of the run that was composed last; ours alone where none was."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    found = [Path(source.path) for source in sources if source.schema == "file"]
    return list(dict.fromkeys([*found, CONF]))
