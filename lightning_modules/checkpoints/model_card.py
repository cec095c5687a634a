"""A model with its card: what it is, what made it, what it costs, what it has measured, how to use it.

The folder holds `codec.safetensors`, `card.json` with every fact, and `card.md` with the same for a reader. Numbers
are those of files: of the model, of the run folder it lies in, of tests; nothing is typed in.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_modules.checkpoints.card_text import markdown
from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.measured_row import MeasuredRow, own_row, plain, read_rows
from lightning_modules.checkpoints.packaged_model import HEADER, is_packaged, read_metadata, save_model
from lightning_modules.checkpoints.training_record import TrainingRecord, read_training, run_folder_of
from lightning_modules.codec import Codec
from lightning_modules.coding.picture import model_fingerprint
from lightning_modules.errors import CodingError
from lightning_modules.system.atomic_file import describe_fault, write_atomically

MODEL_NAME, JSON_NAME, TEXT_NAME = "codec.safetensors", "card.json", "card.md"
LICENCE = Path(__file__).resolve().parents[2] / "LICENSE"
NOT_STATED = "not stated in the file; that of whoever trained it"

Complexity = Callable[[Codec], Mapping[str, float] | None]
"""Thousands of multiplications and additions for a pixel, by name; None for a codec that cannot tell."""


class Subject(NamedTuple):
    """codec: the model. ckpt: as it was named. path: its file. choice: `experiment=NAME`, which loads its class.

    remarks: what was done to the file to read it.
    """

    codec: Codec
    ckpt: str
    path: Path
    choice: str
    remarks: Sequence[str] = ()


class ModelCard:
    """complexity: counts what the networks compute. licence: of the weights; None: latentpress's, for its own."""

    def __init__(self, complexity: Complexity, licence: str | None = None) -> None:
        self.complexity = complexity
        self.licence = licence

    def write(self, subject: Subject, tests: Sequence[Path], folder: Path) -> list[Path]:
        """Write the model and its card into `folder`.

        tests: run folders that have tested it. Returns the files, in order.

        Raises `CodingError` for a test of another model, and where the folder cannot be written.
        """
        run_folder = run_folder_of(subject.path)
        training = None if run_folder is None else read_training(run_folder)
        rows = [*([] if run_folder is None else own_row(run_folder)), *read_rows(tests, subject.ckpt)]
        files = [folder / name for name in (MODEL_NAME, JSON_NAME, TEXT_NAME)]
        model, data, text = files
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _export(subject, model)
            facts = self.facts(subject, model, training, rows)
            write_atomically(data, (json.dumps(facts, indent=2) + "\n").encode("utf-8", "surrogateescape"))
            write_atomically(text, markdown(facts).encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise CodingError(f"{folder}: cannot be written: {describe_fault(error)}") from error
        return files

    def facts(
        self, subject: Subject, model: Path, training: TrainingRecord | None, rows: Sequence[MeasuredRow]
    ) -> dict[str, Any]:
        """Return everything the card says, as JSON values. model: the exported file."""
        codec = subject.codec
        choice = subject.choice
        if training is not None and training.experiment is not None:
            choice = f"experiment={training.experiment}"
        return {
            "name": model.parent.name if training is None else training.config.get("name", model.parent.name),
            "codec": type(codec).__name__,
            "what": (sys.modules[type(codec).__module__].__doc__ or "").strip().partition("\n")[0],
            "hyperparameters": codec.hyperparameters,
            "parameters": sum(parameter.numel() for parameter in codec.parameters()),
            "complexity": self._complexity(codec, training),
            "fingerprint": model_fingerprint(codec).hex(),
            "file": {
                "name": model.name,
                "bytes": model.stat().st_size,
                "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
                "format": HEADER,
            },
            "from": subject.ckpt,
            "remarks": list(subject.remarks),
            "notes": notes(model),
            "licence": self.licence or licence_of(subject.path, training),
            "training": None if training is None else _of_training(training),
            "measured": [{**row._asdict(), "means": plain(row.means)} for row in rows],
            "commands": commands(choice, model),
        }

    def _complexity(self, codec: Codec, training: TrainingRecord | None) -> dict[str, float]:
        """Return the cost as the training's own test has counted it, or counted now."""
        kept = None if training is None else training.folder / "complexity.json"
        if kept is not None and kept.is_file():
            return dict(json.loads(kept.read_text(encoding="utf-8")))
        return dict(self.complexity(codec) or {})


def commands(choice: str, model: Path) -> dict[str, str]:
    """Return what to type where the card was written, by purpose."""
    name = f"'{model}'" if set(str(model)) & set(" ,=()[]{}") else str(model)
    return {
        "compress": f"python run.py task=compress {choice} ckpt={name} input=DIR output=COMPRESSED",
        "decompress": f"python run.py task=decompress ckpt={name} input=COMPRESSED output=DECODED",
        "test": f"python run.py task=test {choice} ckpt={name} datamodule=kodak",
    }


def licence_of(path: Path, training: TrainingRecord | None) -> str:
    """Return that of latentpress for a model that comes with it, or that one of its trainings has left."""
    if (training is None and path.parent != PACKAGED) or not LICENCE.is_file():
        return NOT_STATED
    return f"{LICENCE.read_text(encoding='utf-8').splitlines()[0]}, as latentpress; of the pictures: their own"


def notes(model: Path) -> dict[str, str]:
    """Return the free text of a model file's header."""
    known = {"codec", "hyperparameters", "fingerprint", "checksum"}
    return {name: text for name, text in read_metadata(model).items() if name not in known}


def _export(subject: Subject, model: Path) -> None:
    """Write the model; a packaged one stays as it is, byte for byte."""
    if model.exists() and not is_packaged(model):
        raise CodingError(f"{model}: is there already and no packaged model; give another output=")
    if not is_packaged(subject.path):
        save_model(subject.codec, model)
    elif not (model.exists() and model.samefile(subject.path)):
        write_atomically(model, subject.path.read_bytes())


def _of_training(training: TrainingRecord) -> dict[str, Any]:
    return {
        "experiment": training.experiment,
        "overrides": training.overrides,
        "settings": training.settings,
        **training.facts,
        "data": {use: [one._asdict() for one in found] for use, found in training.data.items()},
        "config": dict(training.config),
    }
