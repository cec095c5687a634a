"""The circumstances that a decoder may find itself in, all of which must give the same integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from lightning_modules.exact.network import Evaluation, Step, evaluate, evaluated_by
from lightning_modules.exact.products import Float64Product, LimbProduct, TapProduct


@dataclass(frozen=True)
class Environment:
    """variables: of the process, set before it starts. batch_size: files decoded at once. layout: of the float weights.

    evaluation: of exact networks; None leaves it to them. onednn: whether PyTorch may use that library. optional: it
    needs what not every machine has, such as a compiler.
    """

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    batch_size: int = 1
    device: str = "cpu"
    layout: torch.memory_format = torch.contiguous_format
    onednn: bool = True
    precision: str = "highest"
    evaluation: Evaluation | None = None
    optional: bool = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Set what can be set in a running process."""
        threads = torch.get_num_threads()
        precision = torch.get_float32_matmul_precision()
        with ExitStack() as stack:
            stack.enter_context(torch.backends.mkldnn.flags(enabled=self.onednn))
            if self.evaluation is not None:
                stack.enter_context(evaluated_by(self.evaluation))
            torch.set_num_threads(self.threads)
            torch.set_float32_matmul_precision(self.precision)
            try:
                yield
            finally:
                torch.set_num_threads(threads)
                torch.set_float32_matmul_precision(precision)


def channels_last(steps: Sequence[Step], values: Tensor) -> Tensor:
    pictures = values.ndim == 4  # vectors of channels have one layout only
    return evaluate(steps, values.contiguous(memory_format=torch.channels_last) if pictures else values, LimbProduct())


def compiled(steps: Sequence[Step], values: Tensor) -> Tensor:
    """Evaluate by code that torch.compile generates."""
    return torch.compile(partial(evaluate, steps, product=Float64Product()), dynamic=False)(values)


ENVIRONMENTS = (
    Environment("1 thread"),
    Environment("2 threads", threads=2),
    Environment("batches of 3", batch_size=3),
    Environment("batches of 8, 2 threads", batch_size=8, threads=2),
    Environment("channels last", layout=torch.channels_last, evaluation=channels_last),
    Environment("without oneDNN", onednn=False),
    Environment("oneDNN for AVX2", variables={"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    Environment("oneDNN for SSE4.1", variables={"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Environment("plain kernels of PyTorch", variables={"ATEN_CPU_CAPABILITY": "default"}),
    Environment("MKL, compatible", variables={"MKL_CBWR": "COMPATIBLE"}),
    Environment("reduced precision of float32", precision="medium"),
    Environment("torch.compile", evaluation=compiled, optional=True),
    Environment("float64 convolutions", evaluation=partial(evaluate, product=Float64Product())),
    Environment("matrix products, float64", evaluation=partial(evaluate, product=TapProduct(torch.float64))),
    Environment("matrix products, int64", evaluation=partial(evaluate, product=TapProduct(torch.int64))),
)
"""Those of every machine; the last is integer arithmetic, which defines what is right."""


def environments() -> tuple[Environment, ...]:
    """`ENVIRONMENTS`, and a GPU where there is one."""
    gpu = (Environment("CUDA", device="cuda"), Environment("CUDA, batches of 8", device="cuda", batch_size=8))
    return ENVIRONMENTS + (gpu if torch.cuda.is_available() else ())
