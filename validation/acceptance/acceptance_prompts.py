"""Prompts from text held out of the models' training: pieces of code, of prose, and of docstrings.

The text itself is the running Python's own and is not stored; ``names`` in the traces say where it stands.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

CORPUS = Path(__file__).parents[1] / "models" / "corpus.py"
DOMAINS = ("code", "prose", "docstrings")
PIECE = 1000  # characters; more than the tokens that are used of a prompt
SEED = 20250


def corpus() -> ModuleType:
    """The module that says which text the models were trained on."""
    spec = importlib.util.spec_from_file_location("corpus", CORPUS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def docstrings(source: str) -> str:
    """All docstrings of a module, in order, a blank line between; none where the source does not parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(text for text in found if text)


def held_out() -> dict[str, list[tuple[str, str]]]:
    """(name, text) of every held-out document by domain; docstrings are those of the code documents."""
    texts: dict[str, list[tuple[str, str]]] = {domain: [] for domain in DOMAINS}
    for document in corpus().split()[1]:
        texts[document.domain].append((document.name, document.text))
        if document.domain == "code":
            texts["docstrings"].append((document.name, docstrings(document.text)))
    return texts


def pieces(name: str, text: str) -> list[tuple[str, str]]:
    """Whole pieces of ``PIECE`` characters that begin at a line, one behind the other, as (name@offset, text)."""
    found, start = [], 0
    while start + PIECE <= len(text):
        found.append((f"{name}@{start}", text[start : start + PIECE]))
        line = text.find("\n", start + PIECE)
        start = len(text) if line < 0 else line + 1
    return found


def write(path: Path, count: int) -> None:
    """``count`` prompts a domain, drawn by a seed among all pieces, as JSON lines."""
    lines = []
    for number, (domain, documents) in enumerate(held_out().items()):
        every = [piece for name, text in documents for piece in pieces(name, text)]
        chosen = np.random.default_rng([SEED, number]).choice(len(every), count, replace=False)
        for name, text in (every[index] for index in sorted(chosen.tolist())):
            lines.append(json.dumps({"name": name, "domain": domain, "prompt": text}) + "\n")
    path.write_text("".join(lines))
