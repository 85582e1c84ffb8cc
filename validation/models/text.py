"""Documents as tokens: a byte-level BPE tokenizer trained on them, and seeded batches cut from the stream."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from corpus import Document
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

END = "<|endoftext|>"
VOCABULARY = 2048


def train_tokenizer(documents: Iterable[Document], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Byte-level BPE: every text encodes, and decodes to itself. Token 0 ends a document."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """The ``tokenizer.json`` of a model's folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def encode(tokenizer: Tokenizer, documents: Iterable[Document]) -> list[Tensor]:
    """Each document's tokens, int64, the end token in front."""
    end = tokenizer.token_to_id(END)
    encoded = tokenizer.encode_batch([document.text for document in documents])
    return [torch.tensor([end, *entry.ids]) for entry in encoded]


def batch(stream: Tensor, *, seed: int, step: int, rows: int, length: int) -> Tensor:
    """``rows`` random cuts [rows, length] of a token stream; the same for the same seed and step."""
    starts = np.random.default_rng([seed, step]).integers(0, len(stream) - length, rows)
    return torch.stack([stream[start : start + length] for start in starts])
