"""How sure a profile is of its machine: what its probe saw while it was measured, or that others measured it."""

from __future__ import annotations

import math
import statistics

from specsim.profiles.store import Profile

# A table of others for a card, beside the kernels that an engine runs on another such card. The same GEMM in the
# tables of two sites for one GPU differs by 5 to 18 % (medians, aiconfigurator-core 0.12). Of that a part is every
# shape's own: from one width to four times it the tables of two engines (vLLM, SGLang, TensorRT-LLM; nine cards)
# disagree on how much longer the same GEMM takes by 0.14 in nine cases of ten, on routed experts by 0.35 and on
# decode attention by 0.5; TABLE_ERROR is one table's share of that as a standard deviation.
FOREIGN_ERROR = 0.07
TABLE_ERROR = {"gemm": 0.06, "moe": 0.14, "attention": 0.2}
# A CPU in another hour: two sweeps of one shared machine, three hours apart, differed in the mean over shapes by 3 %
# (GEMM, attention), 14 % (host) and 15 % (elementwise), and passes predicted from them were 4 and 5 % off.
ANOTHER_HOUR_ERROR = 0.1


def machine_error(profile: Profile) -> float:
    """One standard deviation, as a share: how well the sweep knows the machine's mean state, and how much more a CPU
    may have moved since.
    """
    error = drift(profile)
    return math.hypot(error, ANOTHER_HOUR_ERROR) if profile.header.device == "cpu" else error


def drift(profile: Profile) -> float:
    """One standard deviation, as a share: how well the sweep knows the machine's mean state.

    Kernels are timed in random order all through the sweep, so what they know of its state is a mean: the fixed
    probe's spread over the root of how often it ran. A profile imported without a probe takes FOREIGN_ERROR.
    """
    probe = profile.header.probe
    if probe is None:
        return FOREIGN_ERROR
    times = [probe.before_s, *probe.during_s, *([] if probe.after_s is None else [probe.after_s])]
    spread = statistics.stdev(times) / statistics.median(times) if len(times) > 1 else 0.0
    return spread / math.sqrt(len(times))


def interrupted_share(profile: Profile) -> float:
    """How much longer things take on the profiled machine than their medians: the mean of what its probe saw.

    0.025 in a guest whose host takes its two cores away for 5 ms five times a second. 0 where nobody looked.
    """
    probe = profile.header.probe
    return statistics.fmean(probe.interrupted) if probe is not None and probe.interrupted else 0.0
