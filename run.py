"""Train, test and use learned image codecs: python run.py [task=TASK] [experiment=NAME] [key=value ...]

Reads top to bottom as the life of a run: errors in one line, the values configurations compute, building what
a configuration names, the tasks, and composing it all. Nothing heavy is imported before a task needs it.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach `explain`, which makes one line of them

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
)
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).resolve().parent / "conf"
RUN_FILE = "run.yaml"
MODEL_FILE = "codec.safetensors"
JOB_FOLDER = "LATENTPRESS_JOB_FOLDER"
"""Environment variable by which the first process of a sweep's job tells the others which job they serve."""


class UserError(Exception):
    """What was asked for cannot be done; the message is one line."""


class Stopped(BaseException):
    """A folder job ended early because a signal asked it to; the message is one line. Ends a sweep as well."""

    def __init__(self, line: str, received: signal.Signals) -> None:
        super().__init__(line)
        self.exit_code = 128 + received


# ---- values that configurations compute


def at_or_below(value: float, table: dict[float, Any]) -> Any:
    """The entry of the largest key that is not above `value`."""
    if float(value) < min(table):
        raise UserError(f"{value:g} is below {min(table):g}, the least value there is a setting for; check lmbda=")
    return table[max(key for key in table if key <= float(value))]


def choose(key: str, table: dict[str, Any]) -> Any:
    """The entry of `key`; None for a key that is not there, whose fault is told where it is used."""
    return table.get(key)


def larger(one: int, other: int) -> int:
    return max(one, other)


def run_dir(resume: str | None, fresh: str) -> str:
    """A resumed run goes on in its own folder."""
    return resume or fresh


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sweep_dir() -> Path | None:
    """The folder of the sweep that this job belongs to; None outside sweeps."""
    config = HydraConfig.get()
    return Path(config.sweep.dir) if str(config.mode).endswith("MULTIRUN") else None


def sweep_name() -> str | None:
    """That folder's own name."""
    folder = sweep_dir()
    return folder.name if folder else None


def job_folder() -> str:
    """Of a job of a sweep: its number, and how it differs from the others."""
    from lightning_modules.override import folder_name

    config = HydraConfig.get()
    name = folder_name(config.overrides.task, config.job.config.override_dirname.exclude_keys)
    return f"{config.job.num}_{name}".rstrip("_")


def once(value: str) -> str:
    """The value that it had for the sweep as a whole, for each of its jobs: all lie in one folder."""
    return value


for resolver in (at_or_below, choose, larger, run_dir, short_hash, sweep_name, job_folder):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
OmegaConf.register_new_resolver(once.__name__, once, replace=True, use_cache=True)


# ---- building what a configuration names


def build(config: Any, **changes: Any) -> Any:
    """Instantiate a node of the configuration, with some of its values replaced."""
    return hydra.utils.instantiate(config, _convert_="all", **changes)


def build_each(config: DictConfig | None) -> list[Any]:
    return [build(node) for node in (config or {}).values() if node is not None]


def build_codec(cfg: DictConfig) -> Any:
    """The experiment's codec: fresh, or the one that `ckpt` names; told what `decoding` chooses."""
    decodings = build_each(cfg.get("decoding"))  # absent from runs of before there was any
    codec = load_codec(cfg) if cfg.ckpt is not None else build(cfg.module.codec)
    for decoding in decodings:
        decoding(codec)
    return codec


def load_codec(cfg: DictConfig) -> Any:
    from lightning_modules.checkpoints.checkpoint import load_codec as load

    codec_class = hydra.utils.get_class(cfg.module.codec._target_)
    return load(str(cfg.ckpt), codec_class, lmbda=cfg.lmbda, cache_dir=Path(cfg.paths.cache_dir))


def build_module(cfg: DictConfig, codec: Any) -> Any:
    return build(cfg.module, codec=None, _partial_=True)(codec=codec)


def build_trainer(cfg: DictConfig) -> Any:
    if "provenance" in cfg.task.callbacks:
        cfg.task.callbacks.provenance.config = OmegaConf.to_container(cfg, resolve=True)
    callbacks, loggers = build_each(cfg.task.callbacks), build_each(cfg.logger)
    return build(cfg.trainer, _partial_=True)(callbacks=callbacks, logger=loggers)


# ---- tasks


def fit(cfg: DictConfig) -> None:
    """Train, or go on training; then test the best checkpoint and leave it as a packaged model."""
    from lightning_modules.checkpoints.packaged_model import save_model

    trainer, datamodule, codec = build_trainer(cfg), build(cfg.task.datamodule), build_codec(cfg)
    module = build_module(cfg, codec.train())
    trainer.fit(module, datamodule=datamodule, ckpt_path=last_checkpoint(cfg))
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.test(module, datamodule=datamodule, ckpt_path=trainer.checkpoint_callback.best_model_path)
    if trainer.is_global_zero:
        path = Path(cfg.paths.output_dir) / MODEL_FILE
        save_model(codec, path)
        print(f"model: {path}")


def test(cfg: DictConfig) -> None:
    """Measure really decoded files."""
    trainer, datamodule, codec = build_trainer(cfg), build(cfg.task.datamodule), build_codec(cfg)
    trainer.test(build_module(cfg, codec), datamodule=datamodule)


def compress(cfg: DictConfig) -> None:
    """Pictures -> .lpc files and a report."""
    from lightning_modules.checkpoints.checkpoint import PACKAGED
    from lightning_modules.checkpoints.model_library import remember
    from lightning_modules.coding.picture import model_fingerprint

    build(cfg.task.job).check_writable()
    codec = build_codec(cfg)
    codec.require_files()
    remember(codec, Path(cfg.paths.cache_dir) / "models", PACKAGED)
    chosen = "".join(OmegaConf.to_yaml(cfg[node], resolve=True) for node in ("inference", "decoding"))
    module = build_module(cfg, codec)
    cfg.task.job.key = f"{model_fingerprint(codec).hex()}-{short_hash(chosen + module.coder.key)}"
    predict(cfg, module)


def decompress(cfg: DictConfig) -> None:
    """.lpc files -> PNG, each with the model that made it."""
    from lightning_modules.checkpoints.checkpoint import PACKAGED
    from lightning_modules.checkpoints.model_library import ModelLibrary
    from lightning_modules.compression_module import DecompressionModule

    decodings = build_each(cfg.decoding)
    cfg.task.job.key = short_hash(OmegaConf.to_yaml(cfg.decoding, resolve=True))
    build(cfg.task.job).check_writable()
    given = [] if cfg.ckpt is None else [build_codec(cfg)]
    library = ModelLibrary([PACKAGED, Path(cfg.paths.cache_dir) / "models"], given, decodings)
    predict(cfg, DecompressionModule(library=library))


def truncate(cfg: DictConfig) -> None:
    """Progressive .lpc files -> the same at a lower rate."""
    from lightning_modules.truncation_module import TruncationModule

    limit = build(cfg.task.limit)
    given = Path(cfg.input).resolve()
    if Path(cfg.output).resolve() == (given if given.is_dir() else given.parent):
        raise UserError(f"output={cfg.output}: is where the input lies; give another folder, the originals stay")
    cfg.task.job.key = short_hash(OmegaConf.to_yaml(cfg.task.limit, resolve=True))
    build(cfg.task.job).check_writable()
    predict(cfg, TruncationModule(limit=limit))


def predict(cfg: DictConfig, module: Any) -> None:
    """A folder job. The first process merges the report, which has the last word on what is there."""
    from lightning_modules import stop_request

    files = build(cfg.task.datamodule).predict_dataloader()
    trainer = build_trainer(cfg)
    launcher = trainer.strategy.launcher
    with stop_request.deferred(launcher.kill if launcher else lambda signum: None):
        trainer.predict(module, dataloaders=files, return_predictions=False)
        for process in getattr(launcher, "procs", ()):
            process.wait()  # asked to stop, it finishes its file before the report looks for it
        if trainer.is_global_zero:
            tell(build(cfg.task.job), files.items, stop_request.requested())


def tell(job: Any, items: list[Any], received: signal.Signals | None) -> None:
    """Write the report of a folder job that has ended, perhaps early by a signal, and judge it."""
    report = job.write_report(items)
    print(f"report: {report}")
    for line in job.totals:
        print(line)
    failed = f"{job.failed} of {len(items)} files"
    if received is not None:
        raise Stopped(f"stopped by {received.name}: {failed} failed or not done; the same command goes on", received)
    if job.failed:
        raise UserError(f"{failed} failed; {report} says why")


def demo(cfg: DictConfig) -> None:
    """Compress real photos with the packaged model, decode them again, compare with classical codecs."""
    folder = Path(cfg.output or "demo_output")
    originals = build(cfg.task.originals, folder=folder / "originals")
    choices = HydraConfig.get().runtime.choices
    shared = ["experiment=demo", "logger=none", f"trainer={choices['trainer']}", f"lmbda={cfg.lmbda}"]
    files, decoded = folder / "files", folder / "decoded"
    for overrides in (
        ["task=compress", "ckpt=demo", f"input='{originals}'", f"output='{files}'"],
        ["task=decompress", f"input='{files}'", f"output='{decoded}'"],
    ):
        step = hydra.compose("config", [*shared, *overrides])
        with open_dict(step):
            TASKS[step.task.name](step)
    build(cfg.task.comparison).run(originals, files, decoded, folder)


def baselines(cfg: DictConfig) -> None:
    """Classical codecs over ladders of qualities, as folders that a report reads."""
    cfg.task.baselines.provenance.config = OmegaConf.to_container(cfg, resolve=True)
    for table in build(cfg.task.baselines).run(Path(cfg.output)):
        print(f"table: {table}")


def report_results(cfg: DictConfig) -> None:
    """Curves, differences and tables of what runs have left, as a page, a picture and data."""
    given = [cfg.input] if isinstance(cfg.input, str) else cfg.input
    build(cfg.task.report).run([Path(str(path)) for path in given], Path(cfg.output))


def doctor(cfg: DictConfig) -> None:
    """What this machine offers, and whether files decode to the same integers under all its circumstances."""
    examination = build(cfg.task.doctor)
    examination.run()
    if examination.mismatches:
        raise UserError(
            f"{examination.mismatches} mismatches: files of this machine may not decode elsewhere; report it"
        )


TASKS: dict[str, Callable[[DictConfig], None]] = {
    "fit": fit,
    "test": test,
    "compress": compress,
    "decompress": decompress,
    "truncate": truncate,
    "demo": demo,
    "baselines": baselines,
    "report": report_results,
    "doctor": doctor,
}
FOLDER_TASKS = {"compress", "decompress", "truncate", "demo"}
"""Those that a signal stops between two files."""


NEEDS = {
    "test": ["ckpt"],
    "compress": ["ckpt", "input", "output"],
    "decompress": ["input", "output"],
    "truncate": ["input", "output"],
    "baselines": ["input", "output"],
    "report": ["input", "output"],
}
"""Settings without which a task cannot begin."""


def require(cfg: DictConfig) -> None:
    """Raises `UserError` for what is missing, before anything heavy is imported."""
    missing = [key for key in NEEDS.get(cfg.task.name, []) if cfg[key] is None]
    if missing:
        raise UserError(f"task={cfg.task.name} needs {' and '.join(f'{key}=...' for key in missing)}")


# ---- resuming


def last_checkpoint(cfg: DictConfig) -> Path | None:
    """Where an interrupted training goes on; None when it had not come to its first checkpoint."""
    path = Path(cfg.paths.output_dir) / "checkpoints" / "last.ckpt"
    return path if cfg.resume is not None and path.is_file() else None


def stored_run(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """The configuration that the run folder `cfg.resume` was started with, and this command line's changes to it.

    Single values may change (steps=, trainer.devices=); another experiment or module is another run.
    """
    path = Path(cfg.resume) / RUN_FILE
    if not path.is_file():
        raise UserError(f"{path}: not found, so {cfg.resume} is not a training run's folder; give one with resume=")
    stored = OmegaConf.load(path)
    for override in overrides:
        key, _, _ = override.partition("=")
        if key == "resume" or override in stored.overrides:
            continue
        if (CONF / key).is_dir():
            raise UserError(f"{override}: not part of the run in {cfg.resume}; start a new run for it")
        OmegaConf.update(stored.config, key, OmegaConf.select(cfg, key), force_add=False)
    values: Any = OmegaConf.to_container(stored.config)
    return OmegaConf.create({**values, "resume": cfg.resume})  # a root of its own, for interpolations


def store_run(cfg: DictConfig, overrides: list[str]) -> None:
    path = Path(cfg.paths.output_dir) / RUN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save({"overrides": overrides, "config": OmegaConf.to_container(cfg)}, path)


# ---- the run


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    overrides = list(HydraConfig.get().overrides.task)
    if cfg.resume is not None:
        cfg = stored_run(cfg, overrides)
    from lightning_modules import stop_request

    with stop_request.watched() if cfg.task.name in FOLDER_TASKS else nullcontext(), recorded(cfg, overrides):
        run_task(cfg, overrides)


def run_task(cfg: DictConfig, overrides: list[str]) -> None:
    found = dict(os.environ)
    if sweep_dir() is not None:
        os.environ[JOB_FOLDER] = str(cfg.paths.output_dir)
    try:
        require(cfg)
        prepare(cfg, overrides)
        with open_dict(cfg):
            TASKS[cfg.task.name](cfg)
    except Exception as error:
        if sweep_dir() is not None or explain(error) is None:
            raise  # a sweep goes on with its other jobs, and reports this one at its end
        sys.exit(report(error))
    finally:
        leave_nothing_behind(found)


def prepare(cfg: DictConfig, overrides: list[str]) -> None:
    """Threads, seeds, and for a training what it can be resumed with."""
    import lightning

    quieten()
    if cfg.threads is not None:
        import torch

        torch.set_num_threads(cfg.threads)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.task.name == "fit" and cfg.resume is None and "LOCAL_RANK" not in os.environ:
        store_run(cfg, overrides)


def leave_nothing_behind(environment: dict[str, str]) -> None:
    """End what a job started, so that the next one of a sweep, in this process, starts afresh."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    for key in set(os.environ) - set(environment):  # ranks, addresses and ports of this job's processes
        del os.environ[key]


def quieten() -> None:
    """Leave out what libraries say about themselves; their warnings about us stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="(torch|compressai)")
    warnings.filterwarnings(
        "ignore", message=".*(LeafSpec|TF32 acceleration|many workers|transfer_batch_to_device|sync_dist).*"
    )


# ---- sweeps


class SweepStart(Callback):
    """What jobs are to know of their sweep, and `entry` after it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Names of jobs leave out what is the same for all; the configuration stays, also when a job fails."""
        del kwargs
        same = ",".join(f"'{key}'" for key in same_for_all(config))
        with read_write(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{same}]")
        HydraConfig.instance().set_config(config)


def same_for_all(config: DictConfig) -> list[str]:
    """Keys that a sweep gives one value, on its command line or in its experiment."""
    presets = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*presets, *config.hydra.overrides.task])
    swept = {override.key_or_group: override.is_sweep_override() for override in overrides}
    return [key for key, several in swept.items() if not several]


@contextmanager
def recorded(cfg: DictConfig, overrides: list[str]) -> Iterator[None]:
    """Leave in the folder of a sweep's job what became of it."""
    if sweep_dir() is None:
        yield
        return
    from lightning_modules.sweep_job import UNFINISHED, SweepJob

    folder, job = Path(cfg.paths.output_dir), SweepJob(HydraConfig.get().job.num, cfg.task.name, overrides, UNFINISHED)
    job.write(folder)
    try:
        yield
    except Exception as error:
        job._replace(error=explain(error) or f"{type(error).__name__}: {error}".partition("\n")[0]).write(folder)
        raise
    job._replace(error=None).write(folder)


def summarize_sweep() -> None:
    """One table of what the jobs of the sweep have measured, if this was one."""
    folder = sweep_dir() if HydraConfig.initialized() else None
    if folder is not None and folder.is_dir():
        from lightning_modules.sweep_summary import summarize

        summarize(folder)


def serve_one_job() -> None:
    """Make a process that Lightning started for one job of a sweep do that job, not the whole sweep again."""
    if "LOCAL_RANK" in os.environ and JOB_FOLDER in os.environ:
        folder = os.environ[JOB_FOLDER]
        where = [f"--config-path={folder}/.hydra", "--config-name=config"]
        quoted = folder.replace("'", "\\'")
        sys.argv[1:] = [*where, f"hydra.run.dir='{quoted}'", "hydra.output_subdir=null"]


def list_inputs() -> None:
    """Let a report's `input=A,B` be a list, which to Hydra is a sweep."""
    if "task=report" in sys.argv and not {"-m", "--multirun"} & set(sys.argv):
        for place, word in enumerate(sys.argv):
            key, _, value = word.partition("=")
            if key == "input" and "," in value and not set(value) & set("[]'\""):
                sys.argv[place] = f"input=[{value}]"


def explain(error: BaseException) -> str | None:
    """One line for what a user can mend; None for our own faults, which deserve their traceback."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        options = [str(option) for option in error.options or []]
        what = f"no {group or 'configuration'} named {name}{suggestion(name, options)}"
        return f"{what}; {group}= takes one of: {', '.join(options)}"
    for cause in causes(error):
        if type(cause).__name__ in ("CodingError", "DamagedFile", "WrongModel", "MisconfigurationException"):
            return " ".join(str(cause).split())
    if isinstance(error, ConfigCompositionException):
        return bad_override(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)) and not isinstance(error, InstantiationException):
        text = str(error).split("full_key")[0]
        return " ".join(text.removeprefix(f"{UserError.__name__} raised while resolving interpolation: ").split())
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def bad_override(error: BaseException) -> str:
    """A key that does not exist, with the nearest that does."""
    text = " ".join(" ".join(str(cause) for cause in causes(error)).split())
    key = text.partition("Could not override '")[2].partition("'")[0]
    if not key:
        return text
    known = {line.partition(":")[0] for line in (CONF / "config.yaml").read_text().splitlines() if ":" in line}
    return f"no setting named {key}{suggestion(key, sorted(known))}; python run.py --cfg job lists them all"


def suggestion(name: str, options: list[str]) -> str:
    near = difflib.get_close_matches(name, options, n=2, cutoff=0.6)
    return f", did you mean {' or '.join(near)}?" if near else ""


def entry() -> int:
    """Run, and make one line of what users can mend. 0: all done. 1: something failed. 130, 143: interrupted."""
    serve_one_job()
    list_inputs()
    try:
        try:
            main()
        finally:
            summarize_sweep()
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command, or resume=RUN_FOLDER for a training, goes on", file=sys.stderr)
        return 130
    except Exception as error:
        if explain(error) is None:
            raise
        return report(error)
    return 0


def report(error: BaseException) -> int:
    """Print what `explain` says of an error; the exit code that goes with it."""
    print(f"error: {explain(error)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(entry())
