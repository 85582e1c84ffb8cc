"""The address that the page was opened by: what of it the page cannot take is said, and never replaced."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from specsim.dashboard.inputs.fields import Field
from specsim.errors import InvalidInput, shown, unknown_name

START = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "drafter": "eagle3"}  # where a link says nothing of it


def read_link(fields: Mapping[str, Field]) -> list[str]:
    """Once a session, before any input is drawn: check the address, and fill in what it leaves open.

    Returns why it cannot be answered, a line each, without what the user has answered since.
    """
    if "faults" not in st.session_state:
        asked = {key: st.query_params.get_all(key) for key in st.query_params}
        st.session_state["faults"] = {key: fault for key, told in asked.items() if (fault := _fault(fields, key, told))}
        if "base" not in asked:
            for key, value in START.items():
                if key not in asked:
                    st.session_state[key] = value
    faults = st.session_state["faults"]
    for key in [key for key in faults if st.session_state.get(key) is not None]:
        del faults[key]
    return list(faults.values())


def forget_faults() -> None:
    """Go on without what the address said wrongly."""
    st.session_state["faults"] = {}


def _fault(fields: Mapping[str, Field], key: str, told: list[str]) -> str | None:
    try:
        if key not in fields:
            raise unknown_name("part of the link", key, fields)
        if len(told) > 1:
            raise InvalidInput(f"the link says {key} {len(told)} times; keep one")
        fields[key].check(told[0])
    except InvalidInput as error:
        return f"The link says {key}={shown(told[0])}: {error}"
    return None
