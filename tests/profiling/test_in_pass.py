"""What lies between the kernels of a pass, against an interpreter that is made slower on purpose."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")

from specsim.profiling.device.machine import default_dtype, inspect  # noqa: E402
from specsim.profiling.kernels import in_pass  # noqa: E402
from specsim.reference.network.layers import Layers  # noqa: E402

pytestmark = pytest.mark.torch
DELAY_S = 5e-3


def between_s() -> float:
    return float(np.median(in_pass.between_kernels_s(inspect("cpu"), default_dtype("cpu"))))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_pass, "WEIGHTS_IN_CACHES", 0.01)
    monkeypatch.setattr(in_pass, "BETWEEN_PASSES", 5)


def test_a_slower_interpreter_shows_and_slower_kernels_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_s = between_s()
    assert 0 < plain_s < DELAY_S / 4
    norm, attend = Layers.norm, in_pass.layers.attend

    def slow_norm(self: Layers, *arguments: Any) -> Any:  # the method around the kernel: two a layer, one at the end
        time.sleep(DELAY_S)
        return norm(self, *arguments)

    def slow_kernel(*arguments: Any) -> Any:
        time.sleep(DELAY_S)
        return attend(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(in_pass.layers, "attend", slow_kernel)
        assert between_s() < DELAY_S / 2
    monkeypatch.setattr(Layers, "norm", slow_norm)
    assert between_s() == pytest.approx(2 * DELAY_S, rel=0.5)
