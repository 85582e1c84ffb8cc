"""What requests of a measurement continue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from specsim.scenario import Scenario
from specsim.scenario.prompts import request_prompts
from specsim.workload.request import RequestSpec

PromptIds = Callable[[RequestSpec], Sequence[int]]


def prompts_of(scenario: Scenario, requests: Sequence[RequestSpec]) -> PromptIds:
    """Tokens that a request continues: of the scenario's prompts, else random ones, the same in every run."""
    if scenario.weights is not None:
        texts = request_prompts(scenario.weights, requests)
        return lambda request: texts[request.request_id].tolist()
    vocabulary = scenario.model.vocab_size

    def drawn(request: RequestSpec) -> list[int]:
        generator = np.random.default_rng((scenario.seed, request.request_id))
        tokens: list[int] = generator.integers(0, vocabulary, request.prompt_tokens).tolist()
        return tokens

    return drawn
