"""Writes the half of each greedy trace that laws are fitted on to fit/, and prints the pooled rate of each.

NAME-64.jsonl, of the drafters that run on vLLM, holds the first 64 positions alone, as long as outputs there.

``python validation/studies/acceptance/fit_half.py``. Cases that test real acceptance predict from these and run
prompts of the other half's documents. The rate is that of outputs as long as theirs, for acceptance grows along an
output.
"""

from __future__ import annotations

import numpy as np
from acceptance_study import ALL, HERE, document, fitting_half, half

from specsim.profiling.acceptance.record_file import RecordedTraces, read_traces
from specsim.speculation.acceptance import RoundHistory
from specsim.speculation.fit import fit_constant

ROUNDS_OF = 4  # draft length of the rounds that the pooled rate is counted over
OUTPUT_TOKENS = 64
ON_VLLM = ("draft", "ngram")


def main() -> None:
    """Write a file a drafter."""
    for path in sorted((HERE / "traces" / "greedy").glob("*.jsonl")):
        traces = read_traces(path)
        documents = fitting_half(traces.requests)
        kept = [one for one in traces.requests if document(one) in documents]
        fields = traces.model_dump() | {"requests": [one.model_dump() for one in kept]}
        RecordedTraces.model_validate(fields).write(HERE / "fit" / path.name)
        if path.stem in ON_VLLM:
            for request in fields["requests"]:
                request["runs"] = request["runs"][:OUTPUT_TOKENS]
            RecordedTraces.model_validate(fields).write(HERE / "fit" / f"{path.stem}-{OUTPUT_TOKENS}.jsonl")
        whole, _ = half(traces, ALL, documents, fit=True)
        law = whole.model_copy(update={"runs": tuple(runs[: OUTPUT_TOKENS - 1] for runs in whole.runs)})
        k = min(ROUNDS_OF, law.cap)
        rounds = [RoundHistory(np.zeros_like(x), np.full_like(x, k), x) for x in law.replay(k)]
        rate = fit_constant([one.counts() for one in rounds]).law().rate
        print(f"{path.stem}: {len(kept)} requests, pooled rate {rate:.3f} of rounds of {k}")


if __name__ == "__main__":
    main()
