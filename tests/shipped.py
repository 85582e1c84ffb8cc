"""Which shipped cases every run scores; all of them are scored by the tests marked ``full``."""

from __future__ import annotations

ONE_MAP_OF_EACH_DRAFTER = tuple(f"cpu-imposed-{name}-5" for name in ("draft", "eagle", "kangaroo", "medusa", "ngram"))
ONE_CASE_OF_EACH_KIND = (*ONE_MAP_OF_EACH_DRAFTER, "cpu-real-ngram-2")
