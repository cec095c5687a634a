"""The card of a model as Markdown, from the facts of its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

HASH_SHOWN = 16
"""Digits of a SHA-256 that a table shows; the JSON has all."""

UNITS = {"bpp": "bpp", "psnr": "PSNR, dB", "ms_ssim": "MS-SSIM", "bpp_estimated": "bpp, estimated"}


def markdown(facts: Mapping[str, Any]) -> str:
    parts = [
        f"# {facts['name']}\n\n{facts['what']}",
        f"## What it is\n\n{_identity(facts)}",
        f"## What it measures\n\n{_measured(facts['measured'])}",
        f"## How it was made\n\n{_training(facts)}",
        f"## How to use it\n\n{_commands(facts['commands'])}",
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; bars inside cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _identity(facts: Mapping[str, Any]) -> str:
    file = facts["file"]
    rows = [
        ("codec", f"`{facts['codec']}`: " + ", ".join(f"{k} = {v}" for k, v in facts["hyperparameters"].items())),
        ("model fingerprint", f"`{facts['fingerprint']}`, which its files carry"),
        ("file", f"`{file['name']}`, {file['bytes']:,} bytes, SHA-256 `{file['sha256']}`"),
        ("parameters", f"{facts['parameters']:,}"),
        *((_spoken(name), f"{value:.1f} kMAC/pixel") for name, value in facts["complexity"].items()),
        ("licence of the weights", facts["licence"]),
        ("made from", f"`{facts['from']}`"),
        *((_spoken(name), text) for name, text in facts["notes"].items()),
    ]
    remarks = "".join(f"\n- {line}" for line in facts["remarks"])
    return table(("fact", "value"), rows) + (f"\n\nRead from its file:\n{remarks}" if remarks else "")


def _spoken(name: str) -> str:
    return name.removesuffix("_kmac_per_pixel").replace("_", " ")


def _measured(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "No test of it was found: `input=` of `task=card` takes folders of `task=test`."
    columns = list(dict.fromkeys(name for row in rows for name in row["means"]))
    head = ["test set", "pictures", *(UNITS.get(name, name) for name in columns)]
    cells = [[f"`{row['data']}`", _count(row), *(_number(row["means"], name) for name in columns)] for row in rows]
    lines = [f"- {row['source']}: `{row['command'] or 'command not kept'}`" for row in rows]
    means = "Of files that were written and decoded again; each value per picture, then averaged."
    return f"{means}\n\n{table(head, cells)}\n\nMeasured by\n\n" + "\n".join(lines)


def _count(row: Mapping[str, Any]) -> str:
    return f"{row['pictures']}" + (f", {row['failed']} failed" if row["failed"] else "")


def _number(means: Mapping[str, float | None], name: str) -> str:
    value = means.get(name, "")
    return "lossless" if value is None else value if isinstance(value, str) else f"{value:.4f}"


def _training(facts: Mapping[str, Any]) -> str:
    training = facts["training"]
    if training is None:
        return "It lies in no run folder of latentpress, so nothing is known of its training."
    known = {
        **training["settings"],
        **{name: training[name] for name in ("commit", "torch", "cpu") if name in training},
    }
    rows = [("experiment", training["experiment"] or "the default"), *known.items()]
    cells = [(name, "`" + " ".join(str(value).split()) + "`") for name, value in rows]
    parts = [table(("setting", "value"), cells)]
    if "command" in training:
        parts.append(f"```\n{training['command']}\n```")
    parts.append(_data(training["data"]))
    if training["config"]:
        config = OmegaConf.to_yaml(OmegaConf.create(dict(training["config"])))
        parts.append(f"<details><summary>All settings</summary>\n\n```yaml\n{config}```\n\n</details>")
    return "\n\n".join(parts)


def _data(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    if not data:
        return "Of the data that its settings name nothing is here any more."
    rows = [
        (use, f"`{one['root']}`", one["files"], f"{one['bytes']:,}", f"`{one['sha256'][:HASH_SHOWN]}`")
        for use, found in data.items()
        for one in found
    ]
    head = ("data", "folder", "files", "bytes", "names and sizes")
    return table(head, rows) + "\n\nFound when this card was written; the hash is SHA-256 over a line `NAME SIZE` each."


def _commands(commands: Mapping[str, str]) -> str:
    return "```\n" + "\n".join(commands.values()) + "\n```"
