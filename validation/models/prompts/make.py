"""Writes prompts to measure real acceptance on: fit.jsonl and test.jsonl in this folder.

``python validation/models/prompts/make.py`` (seconds). All are pieces of text held out of the models' training: those
of fit.jsonl from the documents that the laws in ``validation/studies/acceptance`` were fitted on, those of test.jsonl
from others. Code, prose and docstrings take turns. The text is the running Python's own and is not stored.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ACCEPTANCE = HERE.parents[1] / "studies" / "acceptance"
sys.path.insert(0, str(ACCEPTANCE))

from acceptance_prompts import MODELS, drawn, held_out  # noqa: E402
from acceptance_study import fitting_half  # noqa: E402

from specsim.profiling.acceptance.record_file import read_traces  # noqa: E402
from specsim.scenario.prompts import Prompt, encoded  # noqa: E402

RECORDED = ACCEPTANCE / "traces" / "greedy" / "draft.jsonl"
TOKENS = 128  # every prompt has at least so many
MOST = 200


def main(folder: Path = HERE, models: Path = MODELS) -> None:
    """Write both files, and print how many prompts and documents each has."""
    fitted = fitting_half(read_traces(RECORDED).requests)
    for name, wanted in (("fit", True), ("test", False)):
        rows = list(prompts(fitted, models, wanted=wanted))
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        documents = {row["name"].rpartition("@")[0] for row in rows}
        print(f"{path.name}: {len(rows)} prompts of at least {TOKENS} tokens from {len(documents)} documents")


def prompts(fitted: set[str], models: Path, *, wanted: bool) -> Iterator[dict[str, Any]]:
    """Prompts of the documents fitted on (``wanted``) or of the others; domains take turns, each as often."""
    found = []
    for number, (domain, documents) in enumerate(held_out().items()):
        ours = [document for document in documents if (document[0] in fitted) == wanted]
        pieces = [Prompt(name, text, domain) for name, text in drawn(ours, sys.maxsize, number)]
        lengths = map(len, encoded(models / "target", pieces))
        found.append([piece for piece, length in zip(pieces, lengths, strict=True) if length >= TOKENS])
    each = min(MOST // len(found), *map(len, found))
    for turn in zip(*(pieces[:each] for pieces in found), strict=True):
        for piece in turn:
            yield {"name": piece.name, "domain": piece.domain, "prompt": piece.text}


if __name__ == "__main__":
    main()
