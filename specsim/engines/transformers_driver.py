"""Times the rounds of transformers' assisted generation. Run by a Python that has it, never imported by specsim.

One JSON object a line, both ways, as vllm_driver.py has them. First line in: ``model``, ``random`` (its weights are
not read), ``device``, and one of ``assistant`` (a draft model's folder), ``prompt_lookup`` or neither. Then ``begin``
with one of ``prompts``, ``num_draft_tokens`` and ``output_tokens``, and ``steps``, which asks for so many rounds.

A round ends when the target's pass does: it holds the drafting before that pass, and the choice of tokens after the
pass before. How many drafts a pass verified is told by its length, how many were accepted by where the next starts.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Answer on the real standard output; whatever else is printed goes to standard error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        generation = Generation(json.loads(next(sys.stdin)))
        print(json.dumps(generation.facts()), file=out)
        for line in sys.stdin:
            asked = json.loads(line)
            answer = generation.begin(asked["begin"]) if "begin" in asked else generation.go_on(asked["steps"])
            print(json.dumps(answer), file=out)
    except Exception as error:
        version = getattr(sys.modules.get("transformers"), "__version__", None)
        told = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], "transformers": version}
        print(json.dumps(told), file=out)
        raise


class Generation:
    """A target, and what drafts for it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.torch, self.transformers = importlib.import_module("torch"), importlib.import_module("transformers")
        self.torch.manual_seed(0)
        self.device = job["device"]
        self.target = self._loaded(job["model"], random=job["random"])
        assistant = job.get("assistant")
        self.assistant = self._loaded(assistant, random=job["random"]) if assistant else None
        self.prompt_lookup = bool(job.get("prompt_lookup"))
        self.passes: list[dict[str, float]] = []  # of the target, since the generation began
        self.drafting_s = 0.0
        self.left: list[dict[str, Any]] = []  # rounds that ran and were not asked for yet
        self._watch()

    def _loaded(self, folder: str, *, random: bool) -> Any:
        auto = self.transformers.AutoModelForCausalLM
        if random:
            config = self.transformers.AutoConfig.from_pretrained(folder)
            model = auto.from_config(config, dtype=config.dtype)
        else:
            model = auto.from_pretrained(folder, dtype="auto")
        model.generation_config.eos_token_id = None  # answers go on past any end of text
        return model.to(self.device).eval()

    def facts(self) -> dict[str, Any]:
        cuda = self.device == "cuda"
        return {
            "transformers": self.transformers.__version__,
            "torch": self.torch.__version__,
            "device": "cuda" if self.torch.cuda.is_available() and cuda else "cpu",
            "device_name": self.torch.cuda.get_device_name() if cuda else None,
            "dtype": str(self.target.dtype).removeprefix("torch."),
            "threads": self.torch.get_num_threads(),
            "mode": "eager",
        }

    def _watch(self) -> None:
        """Note when the target's passes end and what they computed, and how long the assistant takes."""
        verify = self.target.forward

        def verified(*args: Any, **kwargs: Any) -> Any:
            cached = kwargs["past_key_values"].get_seq_length()
            start = time.perf_counter()
            result = verify(*args, **kwargs)
            if self.device == "cuda":
                self.torch.cuda.synchronize()
            end = time.perf_counter()
            self.passes.append(
                {
                    "end": end,
                    "verify": end - start,
                    "draft": self.drafting_s,
                    "cached": cached,
                    "tokens": kwargs["input_ids"].shape[1],
                }
            )
            self.drafting_s = 0.0
            return result

        self.target.forward = verified
        if self.assistant is not None:
            draft = self.assistant.generate

            def drafted(*args: Any, **kwargs: Any) -> Any:
                start = time.perf_counter()
                result = draft(*args, **kwargs)
                self.drafting_s += time.perf_counter() - start
                return result

            self.assistant.generate = drafted

    def begin(self, what: dict[str, Any]) -> dict[str, Any]:
        """Continue a prompt; ``generate`` stops at no round, so that all run here."""
        if len(what["prompts"]) != 1:
            raise ValueError("assisted generation takes one sequence at a time")
        self.left = self._wave(what["prompts"][0], what["num_draft_tokens"], what["output_tokens"])
        return {}

    def go_on(self, count: int) -> dict[str, Any]:
        """{"steps": [{"seconds": by part, "context_tokens", "drafted": [...], "accepted": [...]}]}."""
        now, self.left = self.left[:count], self.left[count:]
        return {"steps": now}

    def _wave(self, prompt: list[int], draft_tokens: int, output_tokens: int) -> list[dict[str, Any]]:
        self.passes.clear()
        self.drafting_s = 0.0
        ids = self.torch.tensor([prompt], device=self.device)
        with self.torch.inference_mode():
            self.target.generate(
                ids,
                attention_mask=self.torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=output_tokens,
                pad_token_id=0,
                **self._drafting(draft_tokens),
            )
        return [
            self._round(*three) for three in zip(self.passes[:-2], self.passes[1:-1], self.passes[2:], strict=True)
        ]

    def _drafting(self, draft_tokens: int) -> dict[str, Any]:
        if not draft_tokens:
            return {}
        if self.prompt_lookup:
            return {"prompt_lookup_num_tokens": draft_tokens}
        if self.assistant is None:
            raise ValueError("nothing drafts here")
        chosen = self.assistant.generation_config
        chosen.num_assistant_tokens, chosen.num_assistant_tokens_schedule = draft_tokens, "constant"
        chosen.assistant_confidence_threshold = 0.0  # else it stops where it is not sure
        return {"assistant_model": self.assistant}

    @staticmethod
    def _round(before: dict[str, float], this: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
        total = this["end"] - before["end"]
        seconds = {"total": total, "verify": this["verify"], "draft": this["draft"], "sample": 0.0}
        seconds["host"] = total - this["verify"] - this["draft"]
        drafted = this["tokens"] - 1
        accepted = after["cached"] - this["cached"] - 1
        return {
            "seconds": seconds,
            "context_tokens": this["cached"] + 1,
            "drafted": [drafted],
            "accepted": [accepted],
        }


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder: its neighbours are not for others to import
    main()
