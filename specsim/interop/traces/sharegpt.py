"""ShareGPT conversations: texts without times or token counts, read as estimated lengths."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from specsim.errors import InvalidInput
from specsim.json_file import parse_json
from specsim.text_file import LARGEST_BYTES

CHARACTERS_PER_TOKEN = 4.0  # English text under the tokenizers of today's models, roughly; a tokenizer would be exact


def read_lengths(file: TextIO, path: Path) -> list[tuple[int, int]]:
    """Estimated (prompt, output) tokens of each conversation's first question and answer.

    Conversations of fewer than two turns, or with an empty one, are skipped, as ``vllm bench serve`` does. Raises
    InvalidInput for JSON of another shape.
    """
    text = file.read(LARGEST_BYTES + 1)
    if len(text) > LARGEST_BYTES:
        raise InvalidInput(f"trace {path} is larger than 1 GiB; give a part of its conversations")
    try:
        talks = parse_json(text)
    except ValueError:
        raise InvalidInput(f"trace {path}: not JSON; give ShareGPT's file, a CSV, or JSON lines") from None
    lengths = []
    for index, talk in enumerate(talks):
        turns = talk.get("conversations") if isinstance(talk, dict) else None
        if not isinstance(turns, list):
            raise InvalidInput(f"trace {path}, entry {index}: no list 'conversations'; give ShareGPT's file")
        texts = [_text(turn, path, index) for turn in turns[:2]]
        if len(texts) == 2 and all(texts):
            prompt, output = (max(1, round(len(text) / CHARACTERS_PER_TOKEN)) for text in texts)
            lengths.append((prompt, output))
    return lengths


def _text(turn: object, path: Path, index: int) -> str:
    text = turn.get("value") if isinstance(turn, dict) else None
    if not isinstance(text, str):
        raise InvalidInput(f"trace {path}, entry {index}: a turn has no text 'value'; give ShareGPT's file")
    return text
