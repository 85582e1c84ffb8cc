"""Models read from the facts of their config.json, beside what was published:
``python validation/studies/model-shapes/model_shapes.py``.

Writes README.md in this folder and prints it.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from specsim.cost.cache import cache_layout
from specsim.cost.memory import resident_weight_bytes
from specsim.interop.huggingface import covered_families, model_from_config
from specsim.specs.feed_forward import Experts
from specsim.specs.mixers import Attention, Compressed, Latent
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart
from specsim.specs.recurrent import Recurrent
from specsim.units import GB

HERE = Path(__file__).resolve().parent
LONG, BLOCK = 32_768, 16  # tokens
HEAD = """# Shapes of published models

What `specsim` reads from a model's `config.json`, without its weights, beside what was published of it: all
parameters, and what a sequence takes of the cache in 16 bits. `python
validation/studies/model-shapes/model_shapes.py` wrote this page from `published.yaml`, which holds for each
model the few facts of its file on which the shape depends, the published count and where it stands;
`tests/interop/test_published_models.py` holds every row to 1 % of that count, and its cache to a product
written out from the facts.

Parameters are those of the language model: encoders of images and sound, scales of narrow weights and layers
that predict further tokens are left out, so that a count published with them is a little higher. *Active*:
those that a token multiplies by, the output head among them, the embedding not. *Cache a token*: all layers
that keep every token or a window of them. *At 32k*: what a sequence of 32,768 tokens holds by vLLM's blocks,
windows and states as they are. *Stored*: weights in memory as the checkpoint keeps them. Layers: *full*,
*window*, *chunk*, *latent*, *sparse* (chosen by an indexer), *compressed*, *state*; after the plus sign the
feed-forward parts that are routed.

"""


def rows() -> list[dict[str, Any]]:
    """The published models."""
    found: list[dict[str, Any]] = yaml.safe_load((HERE / "published.yaml").read_text(encoding="utf-8"))
    return found


def page() -> str:
    """The whole page."""
    names = (
        "model",
        "layers",
        "parameters, B",
        "published, B",
        "off",
        "active, B",
        "cache a token, B",
        "state, MB",
        "at 32k, MB",
        "stored, GB",
        "source of the count",
    )
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join(['---'] * len(names))} |"]
    found = rows()
    lines += [f"| {' | '.join(_cells(row))} |" for row in found]
    kinds = ", ".join(covered_families())
    count = len({row["config"]["model_type"] for row in found})
    return (
        f"{HEAD}{len(found)} models of {count} values of `model_type`.\n\n" + "\n".join(lines) + "\n\n"
        f"Covered values of `model_type`, in a file or in its text part: {kinds}.\n"
    )


def _cells(row: dict[str, Any]) -> list[str]:
    model = model_from_config(row["config"], row["hub"])
    parameters = model.parameter_count() / 1e9
    layout = cache_layout([ModelPart.whole(model)], BLOCK, 16)
    return [
        row["hub"],
        _layers(model),
        f"{parameters:.3f}",
        f"{row['parameters']:.6g}",
        f"{100 * (parameters / row['parameters'] - 1):+.2f} %",
        f"{model.active_parameter_count() / 1e9:.2f}",
        f"{model.kv_bytes_per_token():,.0f}",
        f"{model.state_bytes() / 1e6:.1f}" if model.state_bytes() else "-",
        f"{layout.blocks_for(LONG) * layout.block_bytes / 1e6:,.0f}",
        f"{resident_weight_bytes(model) / GB:.1f}",
        row["source"],
    ]


def _layers(model: ModelSpec) -> str:
    stack = model.stack()
    kinds: Counter[str] = Counter()
    for mixer, count in stack.mixers:
        kinds[_kind(mixer)] += count
    routed = sum(count for part, count in stack.feed_forward if isinstance(part, Experts))
    told = ", ".join(f"{count} {name}" for name, count in kinds.items())
    return told + (f" + {routed} routed" if routed else "")


def _kind(mixer: Attention | Latent | Compressed | Recurrent) -> str:
    if isinstance(mixer, Recurrent):
        return "state"
    if isinstance(mixer, Compressed):
        return "compressed" if mixer.ratio else "window"
    if mixer.index is not None:
        return "sparse"
    if isinstance(mixer, Latent):
        return "latent"
    return "window" if mixer.window else "chunk" if mixer.chunk else "full"


if __name__ == "__main__":
    text = page()
    (HERE / "README.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
