"""A stand-in for an engine's own Python, which runs a driver: it serves waves in rounds of known times.

A round of B sequences with k drafts takes 10 ms and 1 ms a verified token; accepted drafts are 0, 1, ..., k, 0, ...
A step of a shape takes 20 ms; one of a load 10 ms and 1 ms a request, and gives each a token, the first one two.
``FAKE_DRIVER`` says what is wrong: ``dies`` at its 21st wave, ``empty`` rounds, ``slow`` to start beside a process of
its own, a prompt in each wave that ``lags``. ``FAKE_LOG`` gets what was asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

TROUBLE = os.environ.get("FAKE_DRIVER", "")


def note(what: object) -> None:
    with open(os.environ["FAKE_LOG"], "a") as file:
        file.write(json.dumps(what) + "\n")


def rounds(what: dict[str, Any]) -> list[dict[str, object]]:
    prompts, draft_tokens = what["prompts"], what["num_draft_tokens"]
    found, batch, produced, turn = [], len(prompts), 0, 0
    while produced < what["output_tokens"]:
        accepted = turn % (draft_tokens + 1)
        seconds = 0.01 + 1e-3 * batch * (draft_tokens + 1)
        parts = {"total": seconds, "verify": 0.9 * seconds, "draft": 0.0, "sample": 0.0, "host": 0.1 * seconds}
        found.append({
            "seconds": parts,
            "context_tokens": len(prompts[0]) + produced,
            "drafted": [draft_tokens] * batch, "accepted": [accepted] * batch,
        })  # fmt: skip
        produced, turn = produced + accepted + 1, turn + 1
    if TROUBLE == "lags":
        found.append({"seconds": {}, "drafted": [draft_tokens] * 4, "accepted": [0] * 4})
    return found


def shapes(what: dict[str, Any]) -> list[dict[str, object]]:
    return [{"seconds": {"total": 0.02}}] * what["steps"]


class Load:
    """Requests that came and have not ended: [id, tokens so far, tokens asked for]."""

    def __init__(self) -> None:
        self.running: list[list[int]] = []

    def step(self, arriving: list[dict[str, Any]]) -> list[dict[str, object]]:
        self.running += [[one["id"], 0, one["output_tokens"]] for one in arriving]
        if not self.running:
            return []
        seconds = 0.01 + 1e-3 * len(self.running)
        for place, one in enumerate(self.running):
            one[1] = min(one[2], one[1] + (2 if one[1] and not place else 1))
        tokens = [one[:2] for one in self.running]
        self.running = [one for one in self.running if one[1] < one[2]]
        return [{"seconds": {"total": seconds}, "tokens": tokens, "drafted": [1], "accepted": [1]}]


def main() -> None:
    start = json.loads(sys.stdin.readline())
    note({"start": start, "pid": os.getpid()})
    if TROUBLE == "slow":
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note({"worker": worker.pid})
        time.sleep(600)
    device = os.environ.get("FAKE_DEVICE", "cpu")
    facts = {"vllm": "0.32.0", "transformers": "5.19.0", "torch": "2", "device": device, "dtype": "bfloat16"}
    print(json.dumps(facts | {"mode": "eager", "num_kv_blocks": 512}), flush=True)
    begun, left, load = 0, [], Load()
    for line in sys.stdin:
        asked = json.loads(line)
        note(asked | {"pid": os.getpid()})
        if "begin" in asked:
            if TROUBLE == "dies" and begun == 20:
                sys.exit(7)
            what, load = asked["begin"], Load()
            made = rounds if "prompts" in what else shapes
            begun, left = begun + 1, [] if TROUBLE == "empty" or "load" in what else made(what)
            loaded = "load" in what
            print("{}", flush=True)
        elif loaded:
            print(json.dumps({"steps": load.step(asked.get("arrive", []))}), flush=True)
        else:
            now, left = left[: asked["steps"]], left[asked["steps"] :]
            print(json.dumps({"steps": now}), flush=True)
    note({"ended": os.getpid()})


if __name__ == "__main__":
    main()
