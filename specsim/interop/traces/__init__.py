"""Traces of requests: Azure, Mooncake, Bailian, BurstGPT, Vidur's lengths, ShareGPT, or any named columns."""

from specsim.interop.traces.formats import FORMATS, TimeUnit, TraceFormat
from specsim.interop.traces.read import Trace, read_trace

__all__ = ["FORMATS", "TimeUnit", "Trace", "TraceFormat", "read_trace"]
