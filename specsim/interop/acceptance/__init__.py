"""Acceptance as engines and load generators tell it."""

from specsim.interop.acceptance.law import LawOfLogs, law_of_logs
from specsim.interop.acceptance.read import read_acceptance, read_log_file, read_log_files, rounds_of
from specsim.interop.acceptance.record import AcceptanceRecord, MeanAcceptance
from specsim.interop.acceptance.results import read_specdecode_bench

__all__ = [
    "AcceptanceRecord",
    "LawOfLogs",
    "MeanAcceptance",
    "law_of_logs",
    "read_acceptance",
    "read_log_file",
    "read_log_files",
    "read_specdecode_bench",
    "rounds_of",
]
