"""Run by a Python that has vLLM: JSON lines of {words} on stdin, command lines of ``vllm serve`` in words.

For each it prints {"draft_tokens", "by_batch"}: the drafts vLLM is started for, and at every batch size those that its
scheduler would look up, or {"error"}.
"""

from __future__ import annotations

import json
import sys

import vllm.config.speculative
import vllm.config.vllm
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.spec_decode.dynamic.utils import build_dynamic_sd_schedule_lookup

vllm.config.speculative.has_arctic_inference = lambda: True  # suffix decoding's rules, without its package
vllm.config.vllm.HAS_TRITON = True  # as where there is a GPU: the runner that drafts with every method


def read(words: list[str]) -> dict[str, object]:
    asked = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    asked.model = asked.model_tag or asked.model
    engine = AsyncEngineArgs.from_cli_args(asked).create_engine_config()
    speculation, most = engine.speculative_config, engine.scheduler_config.max_num_seqs
    longest, schedule = speculation.num_speculative_tokens, speculation.num_speculative_tokens_per_batch_size
    if schedule is None:
        return {"draft_tokens": longest, "by_batch": [longest] * most}
    return {"draft_tokens": longest, "by_batch": build_dynamic_sd_schedule_lookup(schedule, most, longest)[1:]}


for line in sys.stdin:
    try:
        found = read(json.loads(line)["words"])
    except BaseException as error:  # argparse exits
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(found), flush=True)
