"""Where files that are shipped with specsim lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path


def shipped(path: str) -> Path:
    """A file or folder, by its path in the repository."""
    package = Path(__file__).parent
    bundled = package / "bundled" / path
    return bundled if bundled.exists() else package.parent / path
