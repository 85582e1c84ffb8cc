"""Records the traces in this folder with ``specsim profile acceptance``; takes a few minutes of one core."""

from __future__ import annotations

import tempfile
from pathlib import Path

import acceptance_prompts

from specsim.cli.main import main

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "models"
TRACES = {"greedy": 0.0, "sampled": 1.0}  # folder -> temperature of the target
PROMPTS = 40  # a domain


def record() -> None:
    """Write every trace anew. Raises SystemExit where the command fails."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        acceptance_prompts.write(prompts, PROMPTS)
        for name, temperature in TRACES.items():
            status = main(
                [
                    "profile",
                    "acceptance",
                    "--models",
                    str(MODELS),
                    "--prompts",
                    str(prompts),
                    "--out",
                    str(HERE / "traces" / name),
                    "--temperature",
                    str(temperature),
                ]
            )
            if status:
                raise SystemExit(status)


if __name__ == "__main__":
    record()
