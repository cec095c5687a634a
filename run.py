"""Train, test and use learned image codecs: python run.py [task=TASK] [experiment=NAME] [key=value ...]

`conf/` says what a run is made of, `lightning_modules/launch/` how it is composed and built, and
`lightning_modules/tasks/` what it does. Nothing heavy is imported before a task needs it.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach `program.enter`, which makes one line of them

import hydra
from omegaconf import DictConfig

from lightning_modules.launch import program
from lightning_modules.launch.paths import CONF


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    """Do what a composed configuration says."""
    return program.do(cfg)


if __name__ == "__main__":
    sys.exit(program.enter(main))
