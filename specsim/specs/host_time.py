"""What an engine's host does while it serves, in seconds, and how much of it the device waits for."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat

from specsim.validated import Validated


class HostTime(Validated):
    """One kind of host work. ``exposed``: share that asynchronous scheduling does not hide behind the device.

    ``error``: one standard deviation, as a share of the seconds.
    """

    seconds: NonNegativeFloat
    exposed: float = Field(0.0, ge=0, le=1)
    error: float = Field(0.4, ge=0)
    source: str = ""


class HostTimes(Validated):
    """Host work of a step, of each of its sequences, of each draft pass and of each drafted token; and of launching.

    ``launch``: one kernel outside of a graph, the Python around it included; None: the card's own. ``piece``: one
    piece of a piecewise captured pass, ``gap``: what the device idles at each of them, however early the host is.
    ``plan``: attention's work division, which some backends compute on the host before every pass.
    The defaults are the reference engine's. Its step and draft pass: a decomposition of vLLM EAGLE rounds on one H100
    at k = 3, 1.2 ms a step and about 1.9 ms for three draft passes, which hold the device's share too.
    """

    step: HostTime = HostTime(seconds=1.2e-3)
    sequence: HostTime = HostTime(seconds=0.0)
    draft_pass: HostTime = HostTime(seconds=0.63e-3)
    draft_token: HostTime = HostTime(seconds=0.0)
    plan: HostTime = HostTime(seconds=0.0)
    launch: HostTime | None = None
    piece: HostTime | None = None
    gap: HostTime = HostTime(seconds=0.0)
