"""Times steps of vLLM's offline engine. Run by vLLM's own Python, never imported by specsim.

One JSON object a line, both ways. First line in: the engine's ``flags``, as ``vllm serve`` takes them. First line out:
what was started. Then ``begin`` makes ready: a step's shape (``sequences``, ``query_len``, ``kv_len``,
``num_draft_tokens``, ``prefill_tokens``, and how many ``steps`` there will be), or ``prompts`` that start together
(with ``num_draft_tokens`` and ``output_tokens``), or a ``load``, whose requests come with ``steps`` as they
``arrive`` (``id``, ``prompt``, ``output_tokens``). ``steps`` asks for so many of them, and is answered by the seconds
of each by part, of prompts and loads also by what their rounds drafted and accepted, and of a load by the tokens that
each request has; fewer come where they end. So engines can take turns step by step. A line with ``error`` ends all.

A step of a shape: requests are admitted as if their KV cache had been computed elsewhere, so that it costs its own
steps and no prefill. Drafts are put into the scheduler after each step, so that every step verifies exactly as many as
wanted; the engine's own drafter runs all the same. Prompts are served for real, and drafts; of a load as many as the
engine was started to draft. Scheduling is synchronous: a step lasts from its scheduling to its output.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

StepSeconds = dict[str, float]  # seconds by part
Step = dict[str, Any]  # its seconds and what it was of


def main() -> None:
    """Answer on the real standard output; whatever the engine prints there goes to standard error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=out)

    try:
        serve(sys.stdin, answer)
    except Exception as error:
        version = getattr(sys.modules.get("vllm"), "__version__", None)
        answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], "vllm": version})
        raise


def serve(lines: Iterator[str], answer: Callable[[dict[str, Any]], None]) -> None:
    """The conversation, until the input ends."""
    engine = StepEngine(json.loads(next(lines)))
    answer(engine.facts())
    for line in lines:
        asked = json.loads(line)
        answer(engine.begin(asked["begin"]) if "begin" in asked else engine.go_on(**asked))


class StepEngine:
    """vLLM's engine in this process, stepped by hand."""

    def __init__(self, job: dict[str, Any]) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        self.torch, self.vllm = importlib.import_module("torch"), importlib.import_module("vllm")
        self.on_cpu = not self.torch.cuda.is_available()
        self.engine = self._started(job["flags"])
        self.core: Any = self.engine.engine_core.engine_core
        self.scheduler = self.core.scheduler
        self.stated_lookup = self.scheduler.dynamic_sd_lookup  # draft length by batch size, if one was stated
        self.vocab_size = self.engine.model_config.get_vocab_size()
        self.random = random.Random(0)
        self.number = 0
        self.spent_s: StepSeconds = {}
        self.loaded: dict[str, int] = {}  # request: prompt tokens whose KV cache is taken as given
        self.scheduled: Any = None
        self.asked: dict[str, int] = {}  # a load's requests that have not ended: the asker's name of each
        self.steps: Iterator[Step] = iter(())
        self._watch()

    def _started(self, flags: list[str]) -> Any:
        """The engine of these flags; what a single step can be timed with comes on top."""
        arguments = importlib.import_module("vllm.engine.arg_utils").EngineArgs
        parser = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
        own = ["--skip-tokenizer-init", "--no-async-scheduling", *(["--enforce-eager"] if self.on_cpu else [])]
        chosen = arguments.from_cli_args(arguments.add_cli_args(parser).parse_args([*flags, *own]))
        chosen.disable_log_stats = True
        return importlib.import_module("vllm.v1.engine.llm_engine").LLMEngine.from_engine_args(chosen)

    def facts(self) -> dict[str, Any]:
        config = self.engine.vllm_config
        return {
            "vllm": self.vllm.__version__,
            "torch": self.torch.__version__,
            "device": "cpu" if self.on_cpu else "cuda",
            "device_name": None if self.on_cpu else self.torch.cuda.get_device_name(),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "threads": self.torch.get_num_threads(),
            "block_size": config.cache_config.block_size,
            "num_kv_blocks": config.cache_config.num_gpu_blocks,
            "mode": "eager" if config.model_config.enforce_eager else "graph",
        }

    def _watch(self) -> None:
        """Count seconds inside the executor's calls and the drafter, and keep what was scheduled last."""
        executor, schedule = self.core.model_executor, self.scheduler.schedule
        self._time(executor, "execute_model", "execute")
        self._time(executor, "sample_tokens", "sample")
        runner = getattr(getattr(getattr(executor, "driver_worker", None), "worker", None), "model_runner", None)
        if hasattr(runner, "propose_draft_token_ids"):
            self._time(runner, "propose_draft_token_ids", "draft")

        def keep(*args: Any, **kwargs: Any) -> Any:
            self.scheduler.connector = _GivenCache(self.loaded) if self.loaded else None
            self.scheduled = schedule(*args, **kwargs)
            self.scheduler.connector = None
            return self.scheduled

        self.scheduler.schedule = keep

    def _time(self, owner: Any, name: str, part: str) -> None:
        call = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent_s[part] = self.spent_s.get(part, 0.0) + time.perf_counter() - start

        setattr(owner, name, timed)

    def begin(self, what: dict[str, Any]) -> dict[str, Any]:
        """Put an end to what ran and make ready what the next steps are of."""
        self._abort_all()
        if "load" in what:
            self.scheduler.dynamic_sd_lookup = self.stated_lookup
            self.engine.reset_prefix_cache()
            self.steps = iter(())
            return {}
        self._fix(what["num_draft_tokens"])
        if "prompts" in what:
            self.steps = self._rounds(what["prompts"], what["output_tokens"])
        elif what["query_len"] > what["num_draft_tokens"] + 1:
            self.steps = self._chunks(what)
        else:
            self.steps = self._decodes(what)
        return {}

    def go_on(self, steps: int, arrive: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """{"steps": the next ones, at most ``steps``}, or {"skipped": why}."""
        for request in arrive:
            self.asked[self._add_tokens(request["prompt"], outputs=request["output_tokens"])] = request["id"]
        if arrive:
            self.steps = self._load()
        try:
            return {"steps": list(islice(self.steps, steps))}
        except _OtherStep as error:
            return {"skipped": str(error)}

    def _decodes(self, shape: dict[str, int]) -> Iterator[Step]:
        """Decode or verify steps, each with a prompt chunk of its own if the shape has one."""
        width, chunk, steps = shape["query_len"], shape["prefill_tokens"], shape["steps"]
        prompt = shape["kv_len"] - width - steps // 2  # caches grow by a token a step: the middle one sees kv_len
        outputs = (steps + 2) * width
        running = [self._add(prompt, computed=prompt - 1, outputs=outputs) for _ in range(shape["sequences"])]
        self._step()
        for _ in range(steps):
            self._draft(running, width - 1)
            wanted = dict.fromkeys(running, width)
            if chunk:
                wanted[self._add(chunk, computed=0, outputs=1)] = chunk
            yield {"seconds": self._step(wanted)}

    def _chunks(self, shape: dict[str, int]) -> Iterator[Step]:
        """Chunks of query_len prompt tokens that end at kv_len: each is a request of its own."""
        chunk, prompt = shape["query_len"], shape["kv_len"]
        for _ in range(shape["steps"]):
            added = [self._add(prompt, computed=prompt - chunk, outputs=1) for _ in range(shape["sequences"])]
            yield {"seconds": self._step(dict.fromkeys(added, chunk))}

    def _rounds(self, prompts: list[list[int]], output_tokens: int) -> Iterator[Step]:
        """Rounds in which all the prompts decode, until one of them has ``output_tokens``; the others go on to theirs.

        Each with its mean ``context_tokens``, and ``drafted`` and ``accepted`` by request. What was drafted in other
        rounds comes last, without seconds: prompts whose drafts are refused take more rounds, so that counting while
        all of them run would count the others too much.
        """
        room = output_tokens + self.scheduler.num_spec_tokens + 1  # the engine ends none of them
        running = [self._add_tokens(prompt, outputs=room) for prompt in prompts]
        requests = {name: self.scheduler.requests[name] for name in running}
        others: list[tuple[int, int]] = []
        while running:
            before = {name: requests[name].num_output_tokens for name in running}
            context = sum(requests[name].num_tokens for name in running) / len(running)
            seconds = self._step()
            drafted = {name: len(self.scheduled.scheduled_spec_decode_tokens.get(name, ())) for name in running}
            accepted = {name: requests[name].num_output_tokens - before[name] - 1 for name in running}
            wanted = {name: drafts + 1 for name, drafts in drafted.items()}
            scheduled = self.scheduled.num_scheduled_tokens
            if len(running) == len(prompts) and all(before.values()) and scheduled == wanted:
                counts = {"drafted": list(drafted.values()), "accepted": list(accepted.values())}
                yield {"seconds": seconds, "context_tokens": context, **counts}
            else:
                others += [(drafted[name], accepted[name]) for name in running if before[name] and name in scheduled]
            ended = [name for name in running if requests[name].num_output_tokens >= output_tokens]
            self.engine.abort_request(ended, internal=True)
            running = [name for name in running if name not in ended]
        if others:
            yield {"seconds": {}, "drafted": [one for one, _ in others], "accepted": [one for _, one in others]}

    def _load(self) -> Iterator[Step]:
        """Whatever step the engine takes next, while a request is there.

        ``tokens``: of each request that has any, by its name. ``drafted`` and ``accepted`` are of the rounds that end
        no request, for of a last round only those are seen that were still asked for.
        """
        while self.asked:
            running = {name: self.scheduler.requests[name] for name in self.asked}
            before = {name: request.num_output_tokens for name, request in running.items()}
            seconds = self._step()
            after = {name: request.num_output_tokens for name, request in running.items()}
            drafts = self.scheduled.scheduled_spec_decode_tokens
            rounds = [
                (len(drafts.get(name, ())), after[name] - before[name] - 1)
                for name, request in running.items()
                if before[name] and after[name] > before[name] and not request.is_finished()
            ]
            tokens = [[self.asked[name], count] for name, count in after.items() if count]
            self.asked = {name: asked for name, asked in self.asked.items() if not running[name].is_finished()}
            yield {
                "seconds": seconds,
                "tokens": tokens,
                "drafted": [drafted for drafted, _ in rounds],
                "accepted": [accepted for _, accepted in rounds],
            }

    def _fix(self, draft_tokens: int) -> None:
        """Draft so many at every batch size, by way of the schedule that vLLM looks the number up in."""
        if draft_tokens > self.scheduler.num_spec_tokens:
            raise ValueError(f"{draft_tokens} drafts are more than the engine's {self.scheduler.num_spec_tokens}")
        fixed = draft_tokens == self.scheduler.num_spec_tokens
        sizes = self.engine.vllm_config.scheduler_config.max_num_seqs + 1
        self.scheduler.dynamic_sd_lookup = None if fixed else [draft_tokens] * sizes

    def _abort_all(self) -> None:
        self.engine.abort_request(list(self.scheduler.requests), internal=True)
        self.asked.clear()
        while self.scheduler.has_requests():
            self.engine.step()

    def _add(self, prompt: int, *, computed: int, outputs: int) -> str:
        """A request of ``prompt`` random tokens whose first ``computed`` need no computing; its id."""
        tokens = [self.random.randrange(self.vocab_size) for _ in range(prompt)]
        added = self._add_tokens(tokens, outputs=outputs)
        if computed:
            self.loaded[added] = computed
        return added

    def _add_tokens(self, tokens: list[int], *, outputs: int) -> str:
        """A request that goes on past any end of text; its id."""
        self.number += 1
        parameters = self.vllm.SamplingParams(temperature=0.0, max_tokens=outputs, ignore_eos=True, detokenize=False)
        self.engine.add_request(f"specsim-{self.number}", {"prompt_token_ids": tokens}, parameters)
        return str(next(reversed(self.scheduler.requests)))  # the engine gives it an id of its own

    def _draft(self, request_ids: list[str], tokens: int) -> None:
        for request_id in request_ids:
            drafts = [self.random.randrange(self.vocab_size) for _ in range(tokens)]
            self.scheduler.requests[request_id].spec_token_ids = drafts

    def _step(self, wanted: dict[str, int] | None = None) -> StepSeconds:
        """One step's seconds by part; raises _OtherStep if the engine scheduled other tokens than ``wanted``."""
        self.spent_s.clear()
        start = time.perf_counter()
        self.engine.step()
        total = time.perf_counter() - start
        self.loaded.clear()
        if wanted is not None and self.scheduled.num_scheduled_tokens != wanted:
            got = sorted(self.scheduled.num_scheduled_tokens.values())
            raise _OtherStep(f"vLLM scheduled {got} tokens where {sorted(wanted.values())} were wanted")
        if not self.on_cpu:  # launches return before a GPU is done: its parts cannot be told apart here
            return {"total": total}
        execute, sample, draft = (self.spent_s.get(part, 0.0) for part in ("execute", "sample", "draft"))
        parts = {"verify": execute, "sample": sample - draft, "draft": draft, "host": total - execute - sample}
        return {"total": total} | parts


class _OtherStep(Exception):
    """The engine would not run the step that was asked for, for instance for want of KV blocks."""


class _GivenCache:
    """Stands where a KV connector would while requests are admitted: their cache was computed elsewhere."""

    def __init__(self, loaded: dict[str, int]) -> None:
        self._loaded = loaded

    def get_num_new_matched_tokens(self, request: Any, computed: int) -> tuple[int, bool]:
        return self._loaded.get(request.request_id, 0), False

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("supports", "requires", "has_")):
            return False
        return lambda *args, **kwargs: None


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder: its neighbours are not for vLLM to import
    main()
