"""What is measured of an engine: its Python, the model, the drafters, and the engines that serve them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput
from specsim.json_file import read_json_object
from specsim.profiles.steps import PACE, StepShape
from specsim.profiling.steps.samples import WITHOUT, Kind

MODEL = "model"
LOOK_UP: Mapping[str, Path | None] = {"ngram": None}
DTYPES = ("bfloat16", "float16", "float32")
Engine = tuple[dict[str, Any] | None, set[tuple[str, int]]]  # speculative config, (drafter, draft length) it serves


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured: the engine's Python, the model (a folder with its config.json), and the drafters.

    ``drafters``: a draft model's folder by its name in scenarios; None in place of the folder is prompt look-up.
    """

    python: Path
    model: Path
    name: str
    device: str = "cpu"
    dtype: str = "bfloat16"
    drafters: Mapping[str, Path | None] = field(default_factory=lambda: LOOK_UP)
    pace: StepShape = PACE

    def kinds(self, cell: StepShape) -> list[Kind]:
        """The shape with every drafter that it is of."""
        return [(name, cell) for name in (self.drafters if cell.num_draft_tokens else (WITHOUT,))]

    def engines(self, draft_lengths: Sequence[int]) -> list[Engine]:
        """One engine without a drafter, and one with each.

        On a GPU a draft model has an engine a draft length, which graphs are captured for.
        """
        lengths = {k for k in draft_lengths if k}
        engines: list[Engine] = [(None, {(WITHOUT, 0)})] if 0 in draft_lengths else []
        for name, folder in self.drafters.items():
            if folder is None:
                config: dict[str, Any] = {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 4}
            else:
                config = {"method": "draft_model", "model": str(folder)}
            together = folder is None or self.device == "cpu"
            for group in ([lengths] if together else [{k} for k in sorted(lengths)]) if lengths else []:
                engines.append(({**config, "num_speculative_tokens": max(group)}, {(name, k) for k in group}))
        return engines


def check_dtype(dtype: str | None) -> None:
    """Raises InvalidInput for one that engines' steps are not measured in; None is what the device has."""
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInput(f"--dtype {dtype!r}: engines' steps are measured in {', '.join(DTYPES)}; choose one")


def config_of(model: Path, folder: Path) -> Path:
    """The model's config.json; raises InvalidInput without one, or where ``folder`` holds another model's steps."""
    config = (model / "config.json" if model.is_dir() else model).resolve()
    if not config.is_file():
        raise InvalidInput(f"--model {model}: there is no config.json; give a Hugging Face model folder")
    kept = folder / MODEL / "config.json"
    what = "a Hugging Face model's config.json"
    if kept.exists() and read_json_object(kept, what) != read_json_object(config, what):
        raise InvalidInput(f"{folder} holds steps of another model; write to another folder with --out")
    return config


def adopt(config: Path, folder: Path) -> None:
    """Copy the model's config.json beside the table: what was measured stays known."""
    kept = folder / MODEL / "config.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(config, kept)
