"""Texts to continue, as a target's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from specsim.arrays import Integers
from specsim.errors import InvalidInput, NoAnswer
from specsim.json_file import read_json_lines
from specsim.scenario.weights import Weights
from specsim.workload.request import RequestSpec

# Text of others is not stored beside the models trained on it, so its file may have to be made first.
PROMPTS = "JSON lines with a prompt each (of validation/models: python validation/models/prompts/make.py)"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to continue; ``domain`` is what it was filed under, None where it was not."""

    name: str
    text: str
    domain: str | None = None


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a JSON-lines file (``prompt``, perhaps ``domain`` and ``name``), or of a folder of .txt files.

    In a folder a file is a prompt, and its sub-folder, if it has one, the domain. Raises InvalidInput without any.
    """
    if path.is_dir():
        found = [_text_file(path, file) for file in sorted(path.rglob("*.txt"))]
    else:
        found = [_prompt(path, number, row) for number, row in enumerate(read_json_lines(path, PROMPTS))]
    if not found:
        raise InvalidInput(f"{path} holds no prompt; give .txt files in a folder, or JSON lines with a prompt each")
    return found


def encoded(folder: Path, prompts: Sequence[Prompt]) -> list[Integers]:
    """Each prompt in the tokens of the model stored in ``folder``.

    Raises InvalidInput without a tokenizer.json there, NoAnswer without the tokenizers package.
    """
    tokenizer = _tokenizer(folder)
    return [np.array(tokenizer.encode(prompt.text).ids, dtype=np.int64) for prompt in prompts]


def request_prompts(weights: Weights, requests: Sequence[RequestSpec]) -> dict[int, Integers]:
    """The tokens that each request continues: the first of prompt i mod n, as many as its workload says.

    Raises InvalidInput for a prompt shorter than that.
    """
    prompts = read_prompts(weights.prompts)
    tokens = encoded(weights.target, prompts)
    found = {}
    for request in requests:
        number = request.request_id % len(prompts)
        if len(tokens[number]) < request.prompt_tokens:
            raise InvalidInput(
                f"prompt {prompts[number].name} of {weights.prompts} has {len(tokens[number])} tokens and request "
                f"{request.request_id} continues {request.prompt_tokens}; give longer prompts or lower prompt_tokens"
            )
        found[request.request_id] = tokens[number][: request.prompt_tokens]
    return found


def _tokenizer(folder: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise NoAnswer('prompts need the tokenizers package: pip install "llm-specsim[models]"') from None
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}; give a model's folder")
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InvalidInput(f"{folder} has no tokenizer.json, so prompts cannot be read; put the target's there")
    return Tokenizer.from_file(str(file))


def _text_file(folder: Path, file: Path) -> Prompt:
    place = file.relative_to(folder)
    domain = place.parts[0] if len(place.parts) > 1 else None
    try:
        return Prompt(place.with_suffix("").as_posix(), file.read_text(encoding="utf-8"), domain)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {file}: {error}; a prompt is a text in UTF-8") from None


def _prompt(path: Path, number: int, row: dict[str, object]) -> Prompt:
    text, domain = row.get("prompt"), row.get("domain")
    if not isinstance(text, str) or not (domain is None or isinstance(domain, str)):
        raise InvalidInput(f'{path}: entry {number + 1} is no prompt; write {{"prompt": "...", "domain": "..."}}')
    return Prompt(str(row.get("name", number)), text, domain)
