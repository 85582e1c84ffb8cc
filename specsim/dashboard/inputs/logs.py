"""Acceptance logs that the user gave, and the law that fits them; kept for the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from specsim.interop.acceptance import AcceptanceRecord, LawOfLogs, law_of_logs, read_log_file


@dataclass(frozen=True, slots=True)
class Logs:
    """``names``: of the files that were given, one a record."""

    names: Sequence[Path]
    records: Sequence[AcceptanceRecord]
    law: LawOfLogs

    def rates(self) -> tuple[float, ...]:
        """Share of rounds whose first i drafts were all accepted, of the records in use that count rounds."""
        used = (one.counts for one, use in zip(self.records, self.law.used, strict=True) if use)
        counts = next((one for one in used if one is not None), None)
        return () if counts is None else tuple(counts.per_position_rates() or ())


def read_logs(path: Path, name: str) -> Logs:
    """One log's law. Raises InvalidInput."""
    record = read_log_file(path)
    return Logs([Path(name)], [record], law_of_logs([record]))


def keep_logs(logs: Logs) -> None:
    """For the view of acceptance."""
    st.session_state["logs"] = logs


def kept_logs() -> Logs | None:
    """Those that were given last."""
    found: Logs | None = st.session_state.get("logs")
    return found
