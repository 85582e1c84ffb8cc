"""No number in a scenario is infinite, subnormal or too large for arithmetic, wherever it stands."""

from __future__ import annotations

import pytest

from specsim.errors import InvalidInput
from specsim.scenario import load_scenario


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("conditions={memory: .inf}", "conditions.memory"),
        ("conditions={memory: 1e-320}", "memory is 9.99989e-321"),
        ("engine.host_step_s=.nan", "engine.host_step_s"),
        ("engine.host_step_s=1e300", "host_step_s is 1e+300"),
        ("slo={ttft_s: .inf}", "slo"),
        ("deployment.replicas=100000000000", "deployment.replicas"),
        ("engine.max_num_seqs=100000000000", "engine.max_num_seqs"),
        ("seed=1" + "0" * 40, "seed"),
    ],
)
def test_a_number_that_no_quantity_can_have_is_refused(setting: str, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        load_scenario("cpu-144m", [setting])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "setting", ['name="a\\ud800"', 'cost.profile="\\udfff"', 'workload.classes=[{name: "\\ud800"}]']
)
def test_half_of_a_surrogate_pair_is_no_text(setting: str) -> None:
    with pytest.raises(InvalidInput) as error:
        load_scenario("cpu-144m", [setting])
    str(error.value).encode()  # can be printed
    assert r"\ud" in str(error.value)


def test_other_alphabets_are_text() -> None:
    assert load_scenario("cpu-144m", ['name="Größe 你好 \\U0001F600"']).name.startswith("Größe 你好")
