"""What the cache of compiled functions is keyed by: the files that each is made of."""

from __future__ import annotations

from pathlib import Path

from specsim.jit import sources
from specsim.scheduling import vllm
from specsim.serving import loop

PACKAGE = Path(loop.__file__).parents[1]


def of(module: object) -> set[str]:
    return {str(path.relative_to(PACKAGE)) for path in sources(Path(str(module.__file__)))}  # type: ignore[attr-defined]


def test_the_loop_is_made_of_what_it_calls_and_of_the_constants_that_these_import() -> None:
    found = of(loop)
    assert {"jit.py", "serving/transitions.py", "scheduling/queue.py", "surfaces/look_up.py"} <= found
    assert "cost/forward.py" in found  # the sources of a price, whose number the tables' layout follows
    assert "scheduling/vllm.py" not in found  # called by its address


def test_the_rules_of_an_engine_are_made_of_their_own_files() -> None:
    found = of(vllm)
    assert {"scheduling/vllm.py", "scheduling/disaggregation.py", "scheduling/blocks.py"} <= found
    assert not {"scheduling/sglang.py", "serving/loop.py"} & found
