"""Acceptance as engines and load generators tell it."""

from specsim.interop.acceptance.read import read_acceptance
from specsim.interop.acceptance.record import AcceptanceRecord, MeanAcceptance
from specsim.interop.acceptance.results import read_specdecode_bench

__all__ = ["AcceptanceRecord", "MeanAcceptance", "read_acceptance", "read_specdecode_bench"]
