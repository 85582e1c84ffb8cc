"""Heads that only draft, by what they are; none of them is a whole model."""

from __future__ import annotations

import re

from specsim.errors import InvalidInput


def refuse_draft_head(raw, content, where):
    keys = ("speculators_model_type", "draft_vocab_size", "medusa_num_heads", "eagle_config")
    marks = [key for key in keys if content.get(key) is not None]
    marks += [name for name in content.get("architectures") or () if re.search("eagle|medusa", str(name), re.I)]
    if marks:
        raise InvalidInput(
            f"{where} describes a draft head ({marks[0]}), not a whole model; "
            "choose its technique as the draft program instead"
        )
