"""Files as the authors' scripts write them: the codec among metrics, constants and stale buffers, behind `module.`."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from lightning_modules.sic.networks import SicNetworks

PUBLISHED_DEPTHS = [1, 2, 2, 3]


def official_state(networks: SicNetworks) -> dict[str, Tensor]:
    """All 363 entries when the depths are the published ones; metrics' networks as single numbers.

    Context weights that the mask hides are not zero, masks of windows have the size of some picture.
    """
    state = {_flat(name): value.detach().clone() for name, value in networks.named_parameters()}
    mask = networks.context_model.layer.mask
    weight = state["context_model.layer.weight"]
    state["context_model.layer.weight"] = torch.where(mask, weight, torch.full_like(weight, 0.25))
    state["context_model.layer.mask"] = mask.float()
    for name in list(state):
        block, _, part = name.partition("attn.relative_position_bias_table")
        if not part and block != name:
            state[f"{block}attn.relative_position_index"] = torch.zeros(64, 64, dtype=torch.int64)
            if int(block.rstrip(".").rpartition(".")[2]) % 2:
                state[f"{block}attn_mask"] = torch.zeros(6, 64, 64)
    state |= _entropy_model_buffers() | _metrics()
    return {f"module.{name}": value for name, value in state.items()}


def _flat(name: str) -> str:
    """CompressAI 1.2.4's name of a bottleneck's parameter."""
    singular = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}
    return re.sub(r"(entropy_bottleneck\.)(matrices|biases|factors)\.", lambda m: m[1] + singular[m[2]], name)


def _entropy_model_buffers() -> dict[str, Tensor]:
    empty = torch.zeros(0, dtype=torch.int32)
    buffers = {f"{of}.{name}": empty for of in OF for name in ("_offset", "_quantized_cdf", "_cdf_length")}
    bottleneck, conditional = OF
    limit = math.log(2 / 1e-9 - 1)
    return buffers | {
        f"{bottleneck}.target": torch.tensor([-limit, 0.0, limit]),
        f"{bottleneck}.likelihood_lower_bound.bound": torch.tensor([1e-9]),
        f"{conditional}.scale_table": torch.zeros(0),
        f"{conditional}.scale_bound": torch.tensor([0.11]),
        f"{conditional}.lower_bound_scale.bound": torch.tensor([0.11]),
        f"{conditional}.likelihood_lower_bound.bound": torch.tensor([1e-9]),
    }


OF = ("entropy_bottleneck", "gaussian_conditional")


def _metrics() -> dict[str, Tensor]:
    trunk = [f"lpips.net.{layer}" for layer in ("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10")]
    stages = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
    vgg = [f"dists.stage{stage}.{layer}" for stage, layers in stages.items() for layer in layers]
    names = [f"{layer}.{part}" for layer in trunk + vgg for part in ("weight", "bias")]
    names += ["lpips.scaling_layer.shift", "lpips.scaling_layer.scale"]
    names += [f"lpips.lin{i}.model.1.weight" for i in range(5)] + [f"lpips.lins.{i}.model.1.weight" for i in range(5)]
    names += [f"dists.{name}" for name in ("alpha", "beta", "mean", "std")]
    names += [f"dists.{name}.filter" for name in ("stage2.4", "stage3.9", "stage4.16", "stage5.23")]
    return {name: torch.ones(1) for name in names}
