"""Weights of HiLLoC (Townsend et al. 2020), whose ResNet VAE is the one of iREC's lossless results, under our names.

Their file is a numpy array that holds a dictionary of TensorFlow's variables. Kernels are (h, w, in, out), of the last,
transposed convolution (h, w, out, in); their layer i is our block L - 1 - i. Heads are fused there, with parts that
nothing uses without autoregressive flows:

    up_conv1    [posterior mean, logarithm, unused, residual]
    down_conv1  [prior mean, logarithm, posterior mean, logarithm, unused, g];  down_conv2 takes [z, g], ours [g, z]

The last kernel is normalised over outputs, not inputs, which makes it another parametrisation of a kernel that ours
has, too.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.errors import CodingError
from lightning_modules.rec.codec import FIRST_KL
from lightning_modules.rec.models.integer_networks import ORIGINAL

Arrays = Mapping[str, NDArray[np.float32]]

LAYER = re.compile(r"model/IAF_0_(\d+)/down_conv1/V:0")
NUMPYS = {"_reconstruct": np.empty(0).__reduce__()[0], "scalar": np.float32(0).__reduce__()[0]}
"""Functions that arrays and numbers are pickled with, by name; where they live depends on numpy's version."""


def hilloc_weights(path: Path) -> dict[str, Tensor]:
    """Return the state of a `LosslessCodec` with a shared scale. Raises `CodingError` for another kind of file."""
    arrays = read_arrays(path)
    try:
        return converted(arrays)
    except (KeyError, ValueError, IndexError) as error:
        raise CodingError(f"{path}: not the weights of HiLLoC's ResNet VAE ({error}); get another copy") from None


def converted(arrays: Arrays) -> dict[str, Tensor]:
    """Convert their variables by name to ours."""
    depth = sum(LAYER.fullmatch(name) is not None for name in arrays)
    width = arrays["model/x_enc/V:0"].shape[-1]
    latents = arrays["model/IAF_0_0/down_conv2/V:0"].shape[2] - width
    state = _convolution("networks.stem", *_variables(arrays, "x_enc"))
    for level in range(depth):
        state |= _block(arrays, level, f"IAF_0_{depth - 1 - level}", width, latents)
        state[f"expected_kl{level}"] = torch.full((latents,), FIRST_KL)
    return state | {
        **_last(*_variables(arrays, "x_dec")),
        "networks.top": torch.from_numpy(arrays["model/h_top:0"].reshape(-1).copy()),
        "likelihood.log_scale": torch.from_numpy(arrays["model/dec_log_stdv:0"].reshape(()).copy()),
    }


Variables = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""V, g and b of a convolution."""


def _variables(arrays: Arrays, name: str) -> Variables:
    kernel, gain, bias = (arrays[f"model/{name}/{part}:0"] for part in "Vgb")
    return kernel, gain, bias


def _block(arrays: Arrays, level: int, layer: str, width: int, latents: int) -> dict[str, Tensor]:
    up, down = _variables(arrays, f"{layer}/up_conv1"), _variables(arrays, f"{layer}/down_conv1")
    heads = 2 * latents
    residual = [slice(heads + width, None)] if level else []
    shift, unused = slice(heads, 2 * heads), 2 * heads + width
    state = _convolution(f"networks.up_features.{level}", *_outputs(up, [slice(heads), *residual]))
    state |= _convolution(f"networks.shifts.{level}", *_outputs(down, [shift]))
    state |= _convolution(f"networks.pieces.prior{level}.1", *_outputs(down, [slice(heads), slice(unused, None)]))
    kernel, gain, bias = _variables(arrays, f"{layer}/down_conv2")
    g_first = np.concatenate([kernel[:, :, latents:], kernel[:, :, :latents]], axis=2)
    state |= _convolution(f"networks.pieces.merge{level}.1", g_first, gain, bias)
    if level:
        state |= _convolution(f"networks.up_residuals.{level - 1}", *_variables(arrays, f"{layer}/up_conv3"))
    return state


def _outputs(variables: Variables, parts: list[slice]) -> Variables:
    """Return some output channels of a convolution."""
    kernel, gain, bias = (np.concatenate([one[..., part] for part in parts], axis=-1) for one in variables)
    return kernel, gain, bias


def _convolution(
    name: str, kernel: NDArray[np.float32], gain: NDArray[np.float32], bias: NDArray[np.float32]
) -> dict[str, Tensor]:
    direction = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    return {
        f"{name}.{ORIGINAL}0": torch.from_numpy(gain.copy()),
        f"{name}.{ORIGINAL}1": direction,
        f"{name}.bias": torch.from_numpy(bias.copy()),
    }


def _last(kernel: NDArray[np.float32], gain: NDArray[np.float32], bias: NDArray[np.float32]) -> dict[str, Tensor]:
    """Convert the transposed convolution: its effective kernel, as a direction and its norms."""
    norms = np.sqrt(np.square(kernel).sum((0, 1, 2), keepdims=True))
    weight = torch.from_numpy((np.exp(gain)[None, None, :, None] * kernel / norms).transpose(3, 2, 0, 1).copy())
    log_gain = weight.square().sum((0, 2, 3)).sqrt().log()
    name = "networks.pieces.output.1"
    return {f"{name}.{ORIGINAL}0": log_gain, f"{name}.{ORIGINAL}1": weight, f"{name}.bias": torch.from_numpy(bias)}


def read_arrays(path: Path) -> Arrays:
    """Return the dictionary in a `.npy` file. Nothing in the file is run."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            content = _Restricted(file).load()
            arrays: Any = content.item() if isinstance(content, np.ndarray) else content
    except OSError as error:
        raise CodingError(f"{path}: {error.strerror}; give the file of HiLLoC's weights") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise CodingError(f"{path}: not the weights of HiLLoC's ResNet VAE ({error}); get another copy") from None
    if not isinstance(arrays, dict):
        raise CodingError(f"{path}: not the weights of HiLLoC's ResNet VAE (no dictionary); get another copy")
    return {str(name): np.asarray(value, dtype=np.float32) for name, value in arrays.items()}


class _Restricted(pickle.Unpickler):
    """Reads pickles that hold nothing but arrays, numbers, dictionaries and strings."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in NUMPYS:
            return NUMPYS[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")
