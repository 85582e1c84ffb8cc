"""Acceptance from a server's log: vLLM's ``SpecDecoding metrics``, SGLang's ``Decode batch``, llama.cpp's timings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from specsim.arrays import Floats
from specsim.errors import InvalidInput, shown
from specsim.interop.acceptance.record import AcceptanceRecord, MeanAcceptance
from specsim.results import AcceptanceCounts, pooled
from specsim.speculation.fit import counts_from_rates
from specsim.text_file import read_text

WHAT = "a server's log"
ROUNDING = 0.005  # of a logged rate
VLLM = re.compile(
    r"SpecDecoding metrics: .*?Accepted: (\d{1,15}) tokens, Drafted: (\d{1,15}) tokens.*?"
    r"Per-position acceptance rate: ((?:\d*\.?\d+(?:, )?)+)"
)
SGLANG = re.compile(
    r"Decode batch.*?#running-req: (\d+).*?accept len: (\d+(?:\.\d+)?)(?:, accept rate: (\d+(?:\.\d+)?))?"
)
SGLANG_SHAPE = re.compile(r"speculative_num_draft_tokens=(\d+)")
LLAMA_CPP = re.compile(
    r"draft acceptance = [\d.]+ \(\s*(\d{1,15}) accepted /\s*(\d{1,15}) generated\).*?"
    r"acceptance rate per position = \(((?:[\d.]+(?:, )?)+)\)"
)


def read_log(path: Path) -> AcceptanceRecord:
    """The rounds that a log tells of, whichever engine wrote it. Raises InvalidInput for a log of none of them."""
    text = read_text(path, WHAT)
    for marks, reader in ((VLLM, _vllm), (LLAMA_CPP, _llama_cpp), (SGLANG, _sglang)):
        if marks.search(text):
            return reader(text, path)
    raise InvalidInput(
        f"{path}: no line of vLLM ('SpecDecoding metrics'), SGLang ('accept len') or llama.cpp ('draft acceptance') "
        "with drafts; give the log of a server with speculation on"
    )


def _vllm(text: str, path: Path) -> AcceptanceRecord:
    return _counted("vLLM log", _totals(VLLM, text, path), path)


def _llama_cpp(text: str, path: Path) -> AcceptanceRecord:
    return _counted("llama.cpp log", _totals(LLAMA_CPP, text, path), path)


def _totals(line: re.Pattern[str], text: str, path: Path) -> list[AcceptanceCounts]:
    """Of lines (accepted, drafted, rates by position), an interval's or a request's; rates have three decimals there,
    so counts are rounded.
    """
    found = []
    for accepted, drafted, logged in line.findall(text):
        rates = _rates(logged, path)
        # Accepted tokens are the sum of the rates over the rounds, whatever each round drafted.
        rounds = int(accepted) / sum(rates) if sum(rates) else int(drafted) / len(rates)
        if round(rounds):
            found.append(counts_from_rates(rates, round(rounds)))
    return found


def _rates(logged: str, path: Path) -> list[float]:
    try:
        return [min(1.0, float(rate)) for rate in logged.split(", ") if rate]
    except ValueError:
        raise InvalidInput(
            f"{path}: acceptance rates {shown(logged)} are no numbers; give the log as it was"
        ) from None


def _counted(kind: str, records: list[AcceptanceCounts], path: Path) -> AcceptanceRecord:
    if not records:
        raise InvalidInput(f"{path}: every line counts no round; give the log of a server that was asked something")
    return AcceptanceRecord(kind, pooled(records))


def _sglang(text: str, path: Path) -> AcceptanceRecord:
    """Lines of equal intervals (``--decode-log-interval`` steps), so each weighs by its running requests."""
    lines = [(int(running), float(length), float(rate or 0)) for running, length, rate in SGLANG.findall(text)]
    lines = [line for line in lines if line[0]]
    if not lines:
        raise InvalidInput(f"{path}: no decode batch had a request running; give the log of a busy server")
    running, lengths, rates = np.array(lines).T
    shape = SGLANG_SHAPE.search(text)
    draft_tokens = int(shape[1]) - 1 if shape is not None else _draft_tokens(running, lengths, rates)
    if draft_tokens is None or draft_tokens < 1:
        raise InvalidInput(
            f"{path}: its lines do not tell the draft length; keep the log's first lines, which hold server_args"
        )
    mean = MeanAcceptance(float(np.average(lengths, weights=running)), draft_tokens)
    notes = ("SGLang logs the mean length alone: one rate for all positions", "lines weigh by their running requests")
    return AcceptanceRecord("SGLang log", mean=mean, notes=notes)


def _draft_tokens(running: Floats, lengths: Floats, rates: Floats) -> int | None:
    """The draft length k from logged lengths and rates; None where they fit both of SGLang's definitions, or neither.

    ``scheduler_metrics_mixin.py`` divided the length by k + 1 tokens at first, and since late 2025 divides the drafts
    among them, length - 1, by k.
    """
    if not (rates > 0).all():
        return None
    found = set()
    for counted, more in ((lengths, 1), (lengths - 1, 0)):
        tokens = counted.sum() / rates.sum()  # of equal k, the ratio of sums; a rate's last digit is 0.01
        error = ROUNDING * tokens / rates.mean() / np.sqrt(len(rates))
        alike = np.ptp(counted / rates) <= 4 * ROUNDING * tokens / rates.min()
        if alike and abs(tokens - round(tokens)) <= max(error, 0.02):
            found.add(round(tokens) - more)
    return found.pop() if len(found) == 1 else None
