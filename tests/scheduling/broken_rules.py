"""Prints, as JSON, whether some recording notices each way to break a rule; run with NUMBA_DISABLE_JIT=1.

The rules then are plain Python functions, which can be replaced one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from types import ModuleType
from typing import Any

import numba
import numpy as np

from specsim.errors import InvalidInput
from specsim.jit import NONE, integers_at
from specsim.scheduling import blocks, shares, vllm
from specsim.scheduling.records import block_at, engine_at
from tests.scheduling.replay import recordings, replay


def oldest_victim(*_: Any) -> int:
    return 0


def first_block_first(replica: Any, one: Any) -> None:
    if one.named_blocks:
        table = integers_at(one.table)
        table[: one.named_blocks] = table[: one.named_blocks][::-1].copy()
    release(replica, one)


def newest_namesake(replica: Any, one: Any, table: int) -> int:
    found = find_prefix(replica, one, table)
    for index in range(found):
        address = int(integers_at(table)[index])
        block, younger = block_at(address), block_at(address).younger
        while younger != NONE:
            other = block_at(younger)
            if (other.private, other.hash, other.index) == (block.private, block.hash, block.index):
                integers_at(table)[index] = younger
            younger = other.younger
    return found


def everything(replica: Any, one: Any, table: int) -> int:
    """The last known token is found, not computed: nothing would come out of the step."""
    one.prompt_tokens += 1
    found = find_prefix(replica, one, table)
    one.prompt_tokens -= 1
    return found + engine_at(replica.engine).recompute_last_hit * (found > 0)


release, find_prefix = blocks.release, blocks.find_prefix
BROKEN: dict[str, tuple[ModuleType, str, Callable[..., Any]]] = {
    "nothing": (shares, "release", release),
    "victim": (vllm, "_victim", oldest_victim),
    "release": (shares, "release", first_block_first),
    "find": (vllm, "find_prefix", newest_namesake),
    "last token": (vllm, "find_prefix", everything),
}


def noticed(module: ModuleType, name: str, broken: Callable[..., Any], some: list[Any]) -> bool:
    original = getattr(module, name)
    setattr(module, name, broken)
    try:
        return any(bool(list(islice(replay(recording), 1))) for recording in some)
    except (InvalidInput, LookupError):  # a broken scheduler may break down altogether
        return True
    finally:
        setattr(module, name, original)


if __name__ == "__main__":
    assert numba.config.DISABLE_JIT
    short = [recording for recording in recordings() if recording["limits"].get("prefix_caching")]
    short.sort(key=lambda recording: len(recording["events"]))
    with np.errstate(over="ignore"):
        print(json.dumps({name: noticed(*what, short[:30]) for name, what in BROKEN.items()}))
