"""A stand-in for vLLM's OpenAI server in the tests: the routes, the stream and the counters, and no model.

``FAKE_VLLM`` says what is wrong with it: ``dies`` at the start, ``hangs`` before it is ready, ``breaks`` in the middle
of an answer, ``short`` answers, ``refuses`` requests. Rounds of three drafts commit 1, 2, 3, 4, 1, ... tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

TROUBLE = os.environ.get("FAKE_VLLM", "")
DRAFTS, STEP_S = 3, 0.002
lock = Lock()
accepted = [0] * (DRAFTS + 1)  # rounds by accepted tokens


class Handler(BaseHTTPRequestHandler):
    drafting = False

    def do_GET(self) -> None:
        if self.path == "/health":
            self._text("" if TROUBLE != "hangs" else None)
        elif self.path == "/metrics":
            self._text(metrics())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/reset_prefix_cache":
            self._text("")
            return
        request = json.loads(body)
        if TROUBLE == "refuses":
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b'{"message": "the prompt is too long"}')
            return
        self.send_response(200)
        self.end_headers()
        left, turn = request["max_tokens"] - (TROUBLE == "short"), 0
        while left:
            tokens = min(left, 1 + turn % (DRAFTS + 1) if self.drafting else 1)
            if self.drafting:
                with lock:
                    accepted[turn % (DRAFTS + 1)] += 1
            left, turn = left - tokens, turn + 1
            time.sleep(STEP_S)
            chunk = {"choices": [{"text": "", "token_ids": [7] * tokens}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            if TROUBLE == "breaks" and turn == 3:
                print(
                    "(EngineCore pid=1) ERROR 11-30 [core.py:1] RuntimeError: out of luck", file=sys.stderr, flush=True
                )
                os._exit(1)
        self.wfile.write(b"data: [DONE]\n\n")

    def _text(self, text: str | None) -> None:
        self.send_response(200 if text is not None else 503)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        pass


def metrics() -> str:
    lines = ['vllm:cache_config_info{block_size="16",num_gpu_blocks="512"} 1.0']
    if Handler.drafting:
        rounds = sum(accepted)
        lines += [
            f'vllm:spec_decode_num_drafts_total{{model_name="specsim"}} {rounds}',
            f'vllm:spec_decode_num_draft_tokens_total{{model_name="specsim"}} {DRAFTS * rounds}',
            f'vllm:spec_decode_num_accepted_tokens_total{{model_name="specsim"}} '
            f"{sum(j * n for j, n in enumerate(accepted))}",
        ] + [
            f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{model_name="specsim",position="{p}"}} '
            f"{sum(accepted[p + 1 :])}"
            for p in range(DRAFTS)
        ]
    return "# HELP vllm\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--speculative-config")
    known, _ = parser.parse_known_args()
    Handler.drafting = known.speculative_config is not None
    if os.environ.get("FAKE_PIDS"):
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # as an engine core is
        with Path(os.environ["FAKE_PIDS"]).open("a") as file:
            file.write(f"{os.getpid()}\n{worker.pid}\n")
    if TROUBLE == "dies":
        raise ValueError("no such model here")
    ThreadingHTTPServer(("127.0.0.1", known.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
