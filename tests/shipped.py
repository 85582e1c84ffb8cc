"""Which shipped cases every run scores; all of them are scored by the tests marked ``full``."""

from __future__ import annotations

MAP = "cpu-imposed-161m-turin-2026-11-22"  # five drafters, scored by today's code too
ONE_CASE_OF_EACH_KIND = (MAP, "cpu-served-157m-turin-2026-11-22")
