"""What a scenario's bits mean on hardware that computes no 16-bit floats: a CPU profiled in float32."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.scenario import Scenario, load_scenario

FLOAT32_CPU = {
    "name": "old-cpu",
    "source": "test",
    "kind": "cpu",
    "memory_bytes": 32e9,
    "bandwidth_bytes_per_s": 2e10,
    "flops_per_s": {"float32": 1e11},
    "last_level_cache_bytes": 2**25,
}


def scenario(**changes: Any) -> Scenario:
    data = load_scenario("cpu-144m").model_dump(by_alias=True, mode="json")
    return Scenario.model_validate(data | {"gpu": FLOAT32_CPU, "deployment": {}, "cost": {}} | changes)


def test_sixteen_bits_are_kept_in_float32() -> None:
    """Weights and cache take twice the bytes; the draft model's own weights too."""
    one = scenario()
    precision = assemble(one).precision
    assert (precision.dtype, precision.weights, precision.kv) == ("float32", "float32", "float32")
    assert (precision.weight_bits, precision.kv_bits) == (32, 32)
    assert (one.deployment.weight_bits, one.deployment.kv_bits) == (32, 32)
    native = scenario(gpu=FLOAT32_CPU | {"flops_per_s": {"float32": 1e11, "bfloat16": 1e11}})
    assert assemble(native).precision.dtype == "bfloat16"
    wide, narrow = (assemble(s).cost.decode_round(1, 0, 256.0) for s in (one, native))
    assert wide.seconds > 1.5 * narrow.seconds  # one sequence: bound by the bytes of the weights


@pytest.mark.parametrize("field", ["weight_bits", "kv_bits"])
def test_sixteen_bits_asked_for_by_name_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field} is 16 and old-cpu has rates of float32 only; leave it out"):
        scenario(deployment={field: 16})


def test_narrower_weights_are_what_was_asked_for() -> None:
    precision = assemble(scenario(deployment={"weight_bits": 8})).precision
    assert (precision.weights, precision.dtype, precision.kv_bits) == ("int8-weight", "float32", 32)


def test_the_command_line_says_so_in_one_line(tmp_path: Any) -> None:
    path = tmp_path / "cpu.yaml"
    path.write_text(
        "name: old-cpu\nsource: test\nkind: cpu\nmemory_bytes: 32e9\nbandwidth_bytes_per_s: 2e10\n"
        "flops_per_s: {float32: 1e11}\nlast_level_cache_bytes: 33554432\n"
    )
    with pytest.raises(InvalidInput, match="kv_bits is 16 and old-cpu has rates of float32 only") as error:
        load_scenario("cpu-144m", [f"gpu={path}", "cost.profile=null", "deployment.kv_bits=16"])
    assert "\n" not in str(error.value)


def test_a_narrow_model_stays_narrow_and_float16_alone_is_used() -> None:
    narrow = load_scenario("cpu-144m").model_dump(by_alias=True, mode="json")["model"] | {"weight_bits": 4}
    assert assemble(scenario(model=narrow)).precision.weights.startswith("int4-weight")
    half = assemble(scenario(gpu=FLOAT32_CPU | {"flops_per_s": {"float16": 1e11}})).precision
    assert (half.dtype, half.weights, half.kv, half.weight_bits) == ("float16", "float16", "float16", 16)
