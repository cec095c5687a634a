"""Weights of others, and models as others are to find them: fetched, imported, described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lightning_modules.tasks.run import Run


def fetch(run: Run) -> None:
    """Fetch weights of others into the cache; without names, list what there is and what is there already."""
    catalogue, weights = run.build(run.cfg.task.catalogue), run.cfg.weights
    names = [weights] if isinstance(weights, str) else list(weights or [])
    for line in catalogue.fetch(names) if names else catalogue.listing():
        print(line, flush=True)


def import_model(run: Run) -> None:
    """Make a packaged model of a checkpoint of any known layout."""
    cfg = run.cfg
    recognised = run.build(cfg.task.recognise)(Path(cfg.ckpt).expanduser(), codec_classes(run), lmbda=cfg.lmbda)
    print("\n".join(recognised.lines()))
    path = Path(cfg.output)
    recognised.package(path)
    print(f"model: {path}, {path.stat().st_size:,} bytes")


def card(run: Run) -> None:
    """Leave a model, packaged, with a card of what is known of it."""
    cfg = run.cfg
    given = [cfg.input] if isinstance(cfg.input, str) else list(cfg.input or [])
    for path in run.build(cfg.task.card).write(subject(run), [Path(str(one)) for one in given], Path(cfg.output)):
        print(f"{path.stem}: {path}")


def subject(run: Run) -> Any:
    """Return what a card is about: the model that `ckpt` names, whatever class it is of."""
    from lightning_modules.checkpoints.checkpoint import locate
    from lightning_modules.checkpoints.model_card import Subject
    from lightning_modules.checkpoints.packaged_model import is_packaged, load_model

    cfg, classes = run.cfg, codec_classes(run)
    path = locate(str(cfg.ckpt), classes[0], lmbda=cfg.lmbda, cache_dir=Path(cfg.paths.cache_dir))
    if is_packaged(path):
        return Subject(codec := load_model(path), str(cfg.ckpt), path, choice_for(run, codec))
    found = run.build(cfg.task.recognise)(path, classes, lmbda=cfg.lmbda)
    return Subject(found.codec, str(cfg.ckpt), path, choice_for(run, found.codec), found.lines())


def codec_classes(run: Run) -> list[type]:
    """Return the codecs of all modules; the experiment's first, which counts where weights fit several."""
    names = [run.cfg.module.codec._target_, *_codec_names(run).values()]
    return [run.get_class(name) for name in dict.fromkeys(names) if name]


def choice_for(run: Run, codec: Any) -> str:
    """Return the words of a command line that make a codec's class the one that is loaded."""
    if isinstance(codec, run.get_class(run.cfg.module.codec._target_)):
        return f"experiment={run.choices['experiment']}"
    wanted = f"{type(codec).__module__}.{type(codec).__qualname__}"
    return next((f"module={name}" for name, target in _codec_names(run).items() if target == wanted), "")


def _codec_names(run: Run) -> dict[str, str | None]:
    """Return the class of the codec that each module names; None where it takes that of another."""
    return {name: OmegaConf.select(module, "codec._target_") for name, module in run.options("module").items()}
