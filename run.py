"""Train, test, and use learned image codecs: python run.py experiment=NAME [task=TASK] [key=value ...]

Reads top to bottom as the life of a run: compose the configuration, build what it names, call the task.
Nothing heavy is imported before a task needs it, so that --help answers at once.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach `entry`, which makes one line of them

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).resolve().parent / "conf"
RUN_FILE = "run.yaml"
MODEL_FILE = "codec.safetensors"


class UserError(Exception):
    """What the user asked for cannot be done; the message is one line."""


# ---- values that configurations compute


def at_or_below(value: float, table: dict[float, Any]) -> Any:
    """The entry of the largest key that is not above `value`."""
    return table[max(key for key in table if key <= float(value))]


def run_dir(resume: str | None, fresh: str) -> str:
    """A resumed run goes on in its own folder."""
    return resume or fresh


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sweep_name() -> str | None:
    """The folder of the sweep that this job belongs to; None outside sweeps."""
    config = HydraConfig.get()
    return Path(config.sweep.dir).name if str(config.mode).endswith("MULTIRUN") else None


for resolver in (at_or_below, run_dir, short_hash, sweep_name):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


# ---- building what a configuration names


def build(config: Any, **changes: Any) -> Any:
    """Instantiate a node of the configuration, with some of its values replaced."""
    return hydra.utils.instantiate(config, _convert_="all", **changes)


def build_each(config: DictConfig | None) -> list[Any]:
    return [build(node) for node in (config or {}).values() if node is not None]


def build_codec(cfg: DictConfig) -> Any:
    """The experiment's codec: fresh, or the one that `ckpt` names."""
    if cfg.ckpt is None:
        return build(cfg.module.codec)
    from lightning_modules.checkpoints.checkpoint import load_codec

    codec_class = hydra.utils.get_class(cfg.module.codec._target_)
    return load_codec(cfg.ckpt, codec_class, lmbda=cfg.lmbda, cache_dir=Path(cfg.paths.cache_dir))


def build_module(cfg: DictConfig, codec: Any) -> Any:
    return build(cfg.module, codec=None, _partial_=True)(codec=codec)


def build_trainer(cfg: DictConfig) -> Any:
    callbacks, loggers = build_each(cfg.task.callbacks), build_each(cfg.logger)
    return build(cfg.trainer, _partial_=True)(callbacks=callbacks, logger=loggers)


# ---- tasks


def fit(cfg: DictConfig) -> None:
    """Train (or go on training), then test the best checkpoint and leave it as a packaged model."""
    from lightning_modules.checkpoints.packaged_model import save_model

    trainer, datamodule, codec = build_trainer(cfg), build(cfg.task.datamodule), build_codec(cfg)
    module = build_module(cfg, codec)
    trainer.fit(module, datamodule=datamodule, ckpt_path=last_checkpoint(cfg))
    best = trainer.checkpoint_callback.best_model_path
    trainer.test(module, datamodule=datamodule, ckpt_path=best)
    if trainer.is_global_zero:
        save_model(codec, Path(cfg.paths.output_dir) / MODEL_FILE)


def test(cfg: DictConfig) -> None:
    """Measure really decoded files."""
    require(cfg, "ckpt")
    trainer, datamodule, codec = build_trainer(cfg), build(cfg.task.datamodule), build_codec(cfg)
    trainer.test(build_module(cfg, codec), datamodule=datamodule)


def compress(cfg: DictConfig) -> None:
    """A folder of pictures -> .lpc files and a report."""
    from lightning_modules.checkpoints.checkpoint import PACKAGED
    from lightning_modules.checkpoints.model_library import remember

    require(cfg, "ckpt", "input", "output")
    codec = build_codec(cfg)
    remember(codec, Path(cfg.paths.cache_dir) / "models", known=PACKAGED)
    predict(cfg, build_module(cfg, codec))


def decompress(cfg: DictConfig) -> None:
    """.lpc files -> PNG, each with the model that made it."""
    from lightning_modules.checkpoints.checkpoint import PACKAGED
    from lightning_modules.checkpoints.model_library import ModelLibrary
    from lightning_modules.compression_module import DecompressionModule

    require(cfg, "input", "output")
    given = [] if cfg.ckpt is None else [build_codec(cfg)]
    library = ModelLibrary([PACKAGED, Path(cfg.paths.cache_dir) / "models"], given)
    predict(cfg, DecompressionModule(library=library))


def predict(cfg: DictConfig, module: Any) -> None:
    """Run a folder job; rank 0 merges the report and says whether every file is there."""
    trainer, datamodule = build_trainer(cfg), build(cfg.task.datamodule)
    trainer.predict(module, datamodule=datamodule, return_predictions=False)


TASKS: dict[str, Callable[[DictConfig], None]] = {
    "fit": fit,
    "test": test,
    "compress": compress,
    "decompress": decompress,
}


def require(cfg: DictConfig, *keys: str) -> None:
    missing = [key for key in keys if cfg[key] is None]
    if missing:
        raise UserError(f"task={cfg.task.name} needs {' and '.join(f'{key}=...' for key in missing)}")


def last_checkpoint(cfg: DictConfig) -> str | None:
    if cfg.resume is None:
        return None
    path = Path(cfg.resume) / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint to resume from; start the run again without resume=")
    return str(path)


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    TASKS[cfg.task.name](cfg)


if __name__ == "__main__":
    main()
