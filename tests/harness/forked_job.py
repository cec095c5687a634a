"""A process of a compress job that starts in milliseconds, for tests that end many of them.

`start` forks it from Python's fork server, which imports this module, and with it loads the model, once. Unlike two
processes of `run.py` with two ranks, no Trainer drives these, and they share nothing but the output folder.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import lightning as L
import torch

from callbacks.bitstream_writer import BitstreamWriter
from datamodules.file_listing import list_images, named_files
from datamodules.pending_files import Batches, PendingFiles
from datamodules.source_images import read_source
from lightning_modules.checkpoints.checkpoint import nearest_packaged
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.codec import amortized
from lightning_modules.compression_module import CompressionModule
from lightning_modules.folder_jobs.file_names import compressed_name
from lightning_modules.folder_jobs.folder_job import FolderJob
from lightning_modules.system import stop_request

torch.set_num_threads(1)  # before anything starts threads, which would not be there after a fork
CODEC = load_model(nearest_packaged("demo", 0.001))


def start(folder: Path, output: Path) -> ForkServerProcess:
    """A process that compresses what is pending. Exit code 0: the report it wrote at the end has no failed row."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=compress, args=(folder, output), daemon=True)
    process.start()
    return process


def compress(folder: Path, output: Path) -> None:
    """As the tasks of run.py do it: a first SIGTERM stops it between two files."""
    with stop_request.watched(), stop_request.deferred(lambda signum: None):
        job = FolderJob(output, key="the only model")
        job.check_writable()
        items = named_files(folder, list_images(folder))
        writer = BitstreamWriter(job=job, output_name=compressed_name)
        module = CompressionModule(codec=CODEC, inference=amortized, lmbda=0.001, seed=0)
        trainer = L.Trainer.__new__(L.Trainer)
        with torch.inference_mode():
            for batch_idx, images in enumerate(Batches(PendingFiles(items, read_source, job), 1)):
                result = module.predict_step(images, batch_idx)
                writer.on_predict_batch_end(trainer, module, result, images, batch_idx)
        job.write_report(items)
        received = stop_request.requested()
    sys.exit(128 + received if received else min(job.report.failed, 1))
