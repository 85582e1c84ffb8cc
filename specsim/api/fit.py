"""``specsim.fit``: the acceptance law of an engine's logs."""

from __future__ import annotations

from pathlib import Path

from specsim.api.arguments import checked
from specsim.errors import InvalidInput
from specsim.interop.acceptance import LawOfLogs, law_of_logs, read_log_files


@checked
def fit(*logs: str | Path, before: str | Path | None = None) -> LawOfLogs:
    """The law of dumps of /metrics, server logs, bench JSON or responses, chosen by rounds held back.

    ``before``: an earlier dump of the same server's /metrics, of which only the difference counts. The result's
    ``chosen.law`` is what ``speculation.acceptance`` takes; its numbers hold with their 90 % intervals. Raises
    InvalidInput: no log, or one of an unknown format.

    >>> import pathlib
    >>> log = pathlib.Path("bench.json")
    >>> _ = log.write_text('{"spec_decode_num_drafts": 1000, "spec_decode_draft_tokens": 3000,'
    ...     '"spec_decode_accepted_tokens": 1400, "spec_decode_per_position_acceptance_rates": [0.7, 0.45, 0.25]}')
    >>> found = specsim.fit(log)
    >>> round(found.chosen.acceptance_length.value, 2)
    2.4
    """
    if not logs:
        raise InvalidInput("fit is given no log; give dumps of /metrics, server logs or JSON, as fit('metrics.txt')")
    return law_of_logs(read_log_files([Path(log) for log in logs], None if before is None else Path(before)))
