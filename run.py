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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach `explain`, which makes one line of them

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
)
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).resolve().parent / "conf"
JOB_COMMAND = (sys.executable, str(CONF.parent / "run.py"))
"""Does the job of a sweep that its environment names."""

RUN_FILE = "run.yaml"
FAULTS_SHOWN = 5
"""Files of a folder job that failed, on the terminal; the report has all."""
JOB_FOLDER = "LATENTPRESS_JOB_FOLDER"
"""As `lightning_modules.sweeps.process.JOB_FOLDER`: imported, it would make every start slower."""


EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray", "optuna": "optuna"}
"""Launchers and sweepers that are plugins of Hydra's: the extra of ours that installs each."""


class UserError(Exception):
    """What was asked for cannot be done; the message is one line."""


class JobFailed(UserError):
    """A job of a sweep has not ended well; the message is one line."""


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


def greatest(*values: float) -> float:
    return max(values)


def run_dir(resume: str | None, fresh: str) -> str:
    """A resumed run goes on in its own folder."""
    return resume or fresh


def least(*values: float) -> float:
    return min(values)


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
    from lightning_modules.sweeps.overrides import folder_name

    config = HydraConfig.get()
    name = folder_name(config.overrides.task, config.job.config.override_dirname.exclude_keys)
    return f"{config.job.num}_{name}".rstrip("_")


def once(value: str) -> str:
    """The value that it had for the sweep as a whole, for each of its jobs: all lie in one folder."""
    return value


for resolver in (at_or_below, choose, greatest, least, run_dir, short_hash, sweep_name, job_folder):
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


def codec_classes(cfg: DictConfig) -> list[type]:
    """Those of all rooms; the experiment's first, which counts where weights fit several."""
    modules = [OmegaConf.load(path) for path in module_files()]
    names = [cfg.module.codec._target_, *(OmegaConf.select(module, "codec._target_") for module in modules)]
    return [hydra.utils.get_class(name) for name in dict.fromkeys(names) if name]


def module_files() -> list[Path]:
    return sorted(CONF.glob("module/*.yaml"))


def build_module(cfg: DictConfig, codec: Any) -> Any:
    return build(cfg.module, codec=None, _partial_=True)(codec=codec)


def build_trainer(cfg: DictConfig) -> Any:
    if "provenance" in cfg.task.callbacks:
        cfg.task.callbacks.provenance.config = OmegaConf.to_container(cfg, resolve=True)
    callbacks, loggers = build_each(cfg.task.callbacks), build_each(cfg.logger)
    return build(trainer_settings(cfg), _partial_=True, **precision(cfg))(callbacks=callbacks, logger=loggers)


def trainer_settings(cfg: DictConfig) -> dict[str, Any]:
    """Without those that a callback reads, and without a precision of our own, which is none of Lightning's."""
    own = ["memory_format", "compile"] + (["precision"] if cfg.trainer.get("precision") == "auto" else [])
    settings = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(settings, dict), "a node of the configuration with names"
    return {str(name): value for name, value in settings.items() if name not in own}


def precision(cfg: DictConfig) -> dict[str, Any]:
    """What Lightning is told where the precision is `auto`."""
    if cfg.trainer.get("precision") != "auto":
        return {}
    from callbacks.training_precision import quickest_precision

    return quickest_precision(cfg.trainer.accelerator)


# ---- tasks


def fit(cfg: DictConfig) -> None:
    """Train, or go on training; then test the best checkpoint and leave it as a packaged model with its card."""
    from lightning_modules.checkpoints.model_card import MODEL_NAME
    from lightning_modules.checkpoints.packaged_model import save_model

    trainer, datamodule, codec = build_trainer(cfg), build(cfg.task.datamodule), build_codec(cfg)
    module = build_module(cfg, codec.train())
    trainer.fit(module, datamodule=datamodule, ckpt_path=last_checkpoint(cfg))
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.test(module, datamodule=datamodule, ckpt_path=trainer.checkpoint_callback.best_model_path)
    if trainer.is_global_zero:
        path = Path(cfg.paths.output_dir) / MODEL_NAME
        save_model(codec, path)
        print(f"model: {path}")
        present(cfg, trainer, codec, path)


def present(cfg: DictConfig, trainer: Any, codec: Any, model: Path) -> None:
    """The card beside a trained model, and both in the loggers. A run of before there were cards has none."""
    if "card" not in cfg.task:
        return
    from callbacks.logged_files import log_model
    from lightning_modules.checkpoints.model_card import Subject

    files = build(cfg.task.card).write(Subject(codec, str(model), model, choice_for(cfg, codec)), [], model.parent)
    for logger in trainer.loggers:
        log_model(logger, files)


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
    from lightning_modules.decompression_module import DecompressionModule

    decodings = build_each(cfg.decoding)
    cfg.task.job.key = short_hash(OmegaConf.to_yaml(cfg.decoding, resolve=True))
    build(cfg.task.job).check_writable()
    given = [] if cfg.ckpt is None else [build_codec(cfg)]
    library = ModelLibrary([PACKAGED, Path(cfg.paths.cache_dir) / "models"], given, decodings)
    predict(cfg, DecompressionModule(library=library))


def truncate(cfg: DictConfig) -> None:
    """Progressive .lpc files -> the same at a lower rate."""
    from lightning_modules.decompression_module import TruncationModule

    limit = build(cfg.task.limit)
    given = Path(cfg.input).resolve()
    if Path(cfg.output).resolve() == (given if given.is_dir() else given.parent):
        raise UserError(f"output={cfg.output}: is where the input lies; give another folder, the originals stay")
    cfg.task.job.key = short_hash(OmegaConf.to_yaml(cfg.task.limit, resolve=True))
    build(cfg.task.job).check_writable()
    predict(cfg, TruncationModule(limit=limit))


def predict(cfg: DictConfig, module: Any) -> None:
    """A folder job. The first process merges the report, which has the last word on what is there."""
    from lightning_modules.system import stop_request

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
    failed = f"{job.failed} of {job.files} files"
    if received is not None:
        raise Stopped(f"stopped by {received.name}: {failed} failed or not done; the same command goes on", received)
    for fault in job.faults[:FAULTS_SHOWN]:
        print(f"failed: {fault}")
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
    """Curves, differences and tables of what runs have left, as a page, a picture and data; also in the loggers."""
    from callbacks.logged_files import log_report

    given = [cfg.input] if isinstance(cfg.input, str) else cfg.input
    build(cfg.task.report).run([Path(str(path)) for path in given], Path(cfg.output))
    for logger in build_each(cfg.logger):
        log_report(logger, Path(cfg.output))


def fetch(cfg: DictConfig) -> None:
    """Weights of others into the cache; without names, what there is and what is there already."""
    catalogue = build(cfg.task.catalogue)
    names = [cfg.weights] if isinstance(cfg.weights, str) else list(cfg.weights or [])
    for line in catalogue.fetch(names) if names else catalogue.listing():
        print(line, flush=True)


def import_model(cfg: DictConfig) -> None:
    """A checkpoint of any known layout as a packaged model."""
    recognised = build(cfg.task.recognise)(Path(cfg.ckpt).expanduser(), codec_classes(cfg), lmbda=cfg.lmbda)
    print("\n".join(recognised.lines()))
    path = Path(cfg.output)
    recognised.package(path)
    print(f"model: {path}, {path.stat().st_size:,} bytes")


def card(cfg: DictConfig) -> None:
    """A model, packaged, with a card of what is known of it."""
    given = [cfg.input] if isinstance(cfg.input, str) else list(cfg.input or [])
    for path in build(cfg.task.card).write(subject(cfg), [Path(str(one)) for one in given], Path(cfg.output)):
        print(f"{path.stem}: {path}")


def subject(cfg: DictConfig) -> Any:
    """What a card is about: the model that `ckpt` names, whatever class it is of."""
    from lightning_modules.checkpoints.checkpoint import locate
    from lightning_modules.checkpoints.model_card import Subject
    from lightning_modules.checkpoints.packaged_model import is_packaged, load_model

    classes = codec_classes(cfg)
    path = locate(str(cfg.ckpt), classes[0], lmbda=cfg.lmbda, cache_dir=Path(cfg.paths.cache_dir))
    if is_packaged(path):
        return Subject(codec := load_model(path), str(cfg.ckpt), path, choice_for(cfg, codec))
    found = build(cfg.task.recognise)(path, classes, lmbda=cfg.lmbda)
    return Subject(found.codec, str(cfg.ckpt), path, choice_for(cfg, found.codec), found.lines())


def choice_for(cfg: DictConfig, codec: Any) -> str:
    """The words of a command line that make a codec's class the one that is loaded."""
    if isinstance(codec, hydra.utils.get_class(cfg.module.codec._target_)):
        return f"experiment={HydraConfig.get().runtime.choices['experiment']}"
    wanted = f"{type(codec).__module__}.{type(codec).__qualname__}"
    modules = {path.stem: OmegaConf.select(OmegaConf.load(path), "codec._target_") for path in module_files()}
    return next((f"module={name}" for name, target in modules.items() if target == wanted), "")


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
    "fetch": fetch,
    "import": import_model,
    "card": card,
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
    "import": ["ckpt", "output"],
    "card": ["ckpt", "output"],
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


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    """One run; or, wherever one of Hydra's launchers has sent it, one job of a sweep."""
    if sweep_dir() is not None:
        return one_of_a_sweep(cfg)
    overrides = list(HydraConfig.get().overrides.task)
    cfg = cfg if cfg.resume is None else stored_run(cfg, overrides)
    with watched(cfg):
        run_task(cfg, overrides)
    return None


def watched(cfg: DictConfig) -> AbstractContextManager[None]:
    """Signals within are requests, where a task stops between two files."""
    from lightning_modules.system import stop_request

    return stop_request.watched() if cfg.task.name in FOLDER_TASKS else nullcontext()


def run_task(cfg: DictConfig, overrides: list[str]) -> None:
    try:
        require(cfg)
        prepare(cfg, overrides)
        with open_dict(cfg):
            TASKS[cfg.task.name](cfg)
    except Exception as error:
        if sweep_dir() is not None or explain(error) is None:
            raise  # of a job, its record says why
        sys.exit(report(error))
    finally:
        leave_nothing_behind()


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


def leave_nothing_behind() -> None:
    """End what the libraries of a run have started."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


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
    """What jobs are to know of their sweep before the first begins; `entry` sees to what comes after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Names of jobs leave out what is the same for all; the configuration stays, also when a job fails."""
        from lightning_modules.sweeps.folder import begin

        del kwargs
        found = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(CONF.parent), *([found] if found else [])])  # of launchers
        same = ",".join(f"'{key}'" for key in same_for_all(config))
        with read_write(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{same}]")
            named = any(override.startswith("hydra.sweep.dir=") for override in config.hydra.overrides.hydra)
            folder = begin(Path(config.hydra.sweep.dir), sys.argv[1:], named)
            config.hydra.sweep.dir = str(folder)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(folder)}")
        HydraConfig.instance().set_config(config)


def same_for_all(config: DictConfig) -> list[str]:
    """Keys that a sweep gives one value, on its command line or in its experiment."""
    presets = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*presets, *config.hydra.overrides.task])
    swept = {override.key_or_group: override.is_sweep_override() for override in overrides}
    return [key for key, several in swept.items() if not several]


def quoted(value: object) -> str:
    """As Hydra's grammar reads it back."""
    text = str(value).replace("'", "\\'")
    return f"'{text}'"


# ---- the jobs of a sweep


class ProcessLauncher(Launcher):
    """`hydra/launcher=subprocess`: each job of a sweep in a process of its own, `jobs` of them at once."""

    __module__ = "hydra_plugins.latentpress"  # Hydra takes launchers from that package only

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        del task_function  # a process of its own knows what to do
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from lightning_modules.sweeps import frozen_config
        from lightning_modules.sweeps.process_pool import JobCrew

        setup_globals()
        jobs = [self._frozen(overrides, number) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        folders = [job.return_value for job in jobs if job.status == JobStatus.COMPLETED]
        pending = [folder for folder in folders if not frozen_config.is_done(folder)]
        if len(pending) < len(folders):
            print(f"{len(folders) - len(pending)} of {len(jobs)} jobs were done before", file=sys.stderr)
        JobCrew(JOB_COMMAND, self.jobs).run(pending)
        return [judged(job) for job in jobs]

    def _frozen(self, overrides: Sequence[str], number: int) -> JobReturn:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return run_job(freeze_job, config, "hydra.sweep.dir", "hydra.sweep.subdir", self.hydra_context)


def offer(launcher: type[Launcher]) -> None:
    """Hydra looks a launcher up by name in its package of plugins, which is not there while none is installed."""
    Plugins.instance().register(launcher)
    package, _, name = launcher.__module__.partition(".")
    module = sys.modules[launcher.__module__] = ModuleType(launcher.__module__)
    setattr(module, launcher.__name__, launcher)
    setattr(sys.modules.setdefault(package, ModuleType(package)), name, module)


class JudgedJob(JobReturn):
    """As Hydra's, without a word of its own where a job has failed."""

    @property
    def return_value(self) -> Any:
        if self.status == JobStatus.FAILED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


def one_of_a_sweep(cfg: DictConfig) -> float | None:
    """What a launcher of Hydra's calls a job, wherever it does so: here it only starts the process that does it."""
    from lightning_modules.sweeps import frozen_config
    from lightning_modules.sweeps.process import complete

    folder = freeze_job(cfg)
    if not frozen_config.is_done(folder):
        complete(JOB_COMMAND, folder)
    return result(folder, cfg.optimize)


def freeze_job(cfg: DictConfig) -> Path:
    """Leave the job's configuration and its record in its folder, which is returned.

    What cannot be computed is the job's failure. A job that was done before, or is being done, keeps its record.
    """
    from lightning_modules.sweeps import frozen_config, record

    config = HydraConfig.get()
    folder, plain = Path(config.runtime.output_dir), OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    overrides, key = list(config.overrides.task), frozen_config.key_of(cfg)
    job = record.SweepJob(config.job.num, cfg.task.name, overrides, record.UNFINISHED, key)
    try:
        frozen_config.freeze(cfg, plain, folder)
    except Exception as error:
        job._replace(error=one_line(error)).write(folder)
        raise
    if record.read(folder) not in (job, job._replace(error=None)):
        job.write(folder)
    return folder


def judged(job: JobReturn) -> JobReturn:
    """A job that was frozen, with what came of it."""
    assert job.hydra_cfg is not None, "Hydra has filled it in"
    assert job.cfg is not None, "Hydra has filled it in"
    value: Any
    try:
        value, status = result(Path(job.hydra_cfg.hydra.runtime.output_dir), job.cfg.optimize), JobStatus.COMPLETED
    except JobFailed as error:
        value, status = error, JobStatus.FAILED
    return JudgedJob(**{**vars(job), "status": status, "_return_value": value})


def result(folder: Path, measure: str | None) -> float | None:
    """The mean of what a search of settings looks at. Raises `JobFailed`."""
    from lightning_modules.reports.sweep_results import outcome
    from lightning_modules.sweeps import record

    left = record.read(folder)
    error = left.error if left else record.UNFINISHED
    value = outcome(left, folder).means.named(measure) if left and measure and not error else None
    if measure and not error and value is None:
        error = f"has measured no {measure}, which optimize= names"
    if error:
        raise JobFailed(f"{folder.name}: {error}")
    return value


def do_job(folder: Path) -> None:
    """The job of a sweep whose frozen configuration lies in `folder`; its ranks come here as well."""
    from lightning_modules.sweeps import frozen_config
    from lightning_modules.sweeps.process import end_with_parent
    from lightning_modules.sweeps.record import claimed

    frozen = frozen_config.read(folder)
    adopt(frozen.hydra)
    overrides = list(frozen.hydra.overrides.task)
    sys.argv[1:] = overrides  # the command that does this job alone
    with watched(frozen.config):
        if "LOCAL_RANK" in os.environ:
            run_task(frozen.config, overrides)
            return
        end_with_parent()
        with claimed(folder):
            if not frozen_config.is_done(folder):
                with recorded(folder):
                    run_task(frozen.config, overrides)


def adopt(frozen: DictConfig) -> None:
    """Make that Hydra's configuration, as in the process that composed it."""
    setup_globals()
    settings = OmegaConf.structured(HydraConf)
    with open_dict(settings):  # plugins add their own
        settings.merge_with(frozen)
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": settings}))
    os.environ.update(settings.job.env_set)


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Leave in the folder of a sweep's job what became of it."""
    from lightning_modules.sweeps import record

    job = record.read(folder)
    assert job is not None, "written when it was frozen"
    try:
        yield
    except Exception as error:
        job._replace(error=one_line(error)).write(folder)
        raise
    job._replace(error=None).write(folder)


def end_sweep(is_whole: bool) -> int:
    """One table of what the jobs of the sweep have measured, and a line for each that failed: their number."""
    folder = sweep_dir() if HydraConfig.initialized() else None
    if folder is None or not folder.is_dir():
        return 0
    from lightning_modules.reports.sweep_summary import summarize
    from lightning_modules.sweeps.folder import close

    summarize(folder)
    failed = close(folder, is_whole)
    for line in failed if is_whole else []:
        print(line, file=sys.stderr)
    return len(failed)


def resume_sweep() -> None:
    """Make `resume=FOLDER`, if that is a sweep's, the command that began it, given in the folder where it was."""
    if any(word.startswith("resume=") for word in sys.argv):
        from lightning_modules.sweeps.folder import begun_by

        words = begun_by(sys.argv[1:])
        if words is not None:
            os.chdir(words.folder)
            sys.argv[1:] = ["-m", *words.words, f"hydra.sweep.dir={quoted(words.sweep)}"]


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
        if name in EXTRAS and group.startswith("hydra/"):
            return f"{group}={name}: its plugin is not installed; pip install -e .[{EXTRAS[name]}]"
        return f"{what}; {group}= takes one of: {', '.join(options)}"
    for cause in causes(error):
        if type(cause).__name__ in ("CodingError", "DamagedFile", "WrongModel", "MisconfigurationException"):
            return " ".join(str(cause).split())
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, ValueError):
        return f"{str(error).rpartition('full_key: ')[2]}: {' '.join(str(error.__cause__).split())}"
    if isinstance(error, ConfigCompositionException):
        return bad_override(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)) and not isinstance(error, InstantiationException):
        text = str(error).split("full_key")[0]
        return " ".join(text.removeprefix(f"{UserError.__name__} raised while resolving interpolation: ").split())
    return None


def one_line(error: BaseException) -> str:
    return explain(error) or f"{type(error).__name__}: {error}".partition("\n")[0]


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
    try:
        if JOB_FOLDER in os.environ:
            do_job(Path(os.environ[JOB_FOLDER]))
            return 0
        resume_sweep()
        list_inputs()
        return run_or_sweep()
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


def run_or_sweep() -> int:
    offer(ProcessLauncher)
    failed = 0
    is_whole = False
    try:
        with suppress(JobFailed):
            main()
        is_whole = True
    finally:
        failed = end_sweep(is_whole)
    if failed:
        jobs = "job has" if failed == 1 else "jobs have"
        raise UserError(f"{failed} {jobs} failed; the same command does {'it' if failed == 1 else 'them'} again")
    return 0


def report(error: BaseException) -> int:
    """Print what `explain` says of an error; the exit code that goes with it."""
    print(f"error: {explain(error)}", file=sys.stderr)
    return 1


def start() -> int:
    """As the module `run`, by which name the processes of a sweep know what is in here."""
    import run
    from lightning_modules.system.heap import keep_freed_memory

    keep_freed_memory()
    return run.entry()


if __name__ == "__main__":
    sys.exit(start())
