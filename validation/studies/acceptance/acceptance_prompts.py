"""Prompts from text held out of the models' training: pieces of code, of prose, and of docstrings.

The text itself is the running Python's own and is not stored; ``names`` in the traces say where it stands.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

MODELS = Path(__file__).parents[2] / "models"
DOMAINS = ("code", "prose", "docstrings")
PIECE = 600  # characters; more than the tokens that are used of a prompt
SEED = 20250


def corpus() -> ModuleType:
    """The module that says which text the models were trained on."""
    sys.path.insert(0, str(MODELS))
    try:
        return importlib.import_module("corpus")
    finally:
        sys.path.remove(str(MODELS))


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


def drawn(documents: list[tuple[str, str]], count: int, seed: int) -> list[tuple[str, str]]:
    """``count`` pieces in seeded order, one of every document before a second of any: few share one."""
    generator = np.random.default_rng([SEED, seed])
    ranked = []
    for number, document in enumerate(generator.permutation(len(documents)).tolist()):
        found = pieces(*documents[document])
        ranked += [(turn, number, found[i]) for turn, i in enumerate(generator.permutation(len(found)).tolist())]
    return [piece for _, _, piece in sorted(ranked)[:count]]


def write(path: Path, count: int) -> None:
    """``count`` prompts a domain as JSON lines."""
    lines = []
    for number, (domain, documents) in enumerate(held_out().items()):
        for name, text in sorted(drawn(documents, count, number)):
            lines.append(json.dumps({"name": name, "domain": domain, "prompt": text}) + "\n")
    path.write_text("".join(lines))
