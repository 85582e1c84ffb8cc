"""Modules of the studies, which stand beside the package as scripts."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parents[2] / "validation" / "studies"


def study_module(study: str, name: str) -> Any:
    """A module of a study's folder, which its own imports find like a script's."""
    folder = str(STUDIES / study)
    sys.path.insert(0, folder)
    try:
        return import_module(name)
    finally:
        sys.path.remove(folder)
