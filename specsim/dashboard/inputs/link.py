"""The address of the page: read when it is opened, written at every change.

What of it the page cannot take is said, and never replaced.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from specsim.dashboard.inputs.fields import Field
from specsim.errors import InvalidInput, shown, unknown_name

START = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "drafter": "eagle3"}  # where a link says nothing of it


def read_link(fields: Mapping[str, Field]) -> list[str]:
    """Once a session, before any input is drawn: put what the address says into the inputs.

    Returns why it cannot be answered, a line each, without what the user has answered since.
    """
    if "faults" not in st.session_state:
        st.session_state["faults"] = {}
        told = {key: st.query_params.get_all(key) for key in st.query_params}
        start = {} if "base" in told else {key: [value] for key, value in START.items()}
        for key, values in (start | told).items():
            _take(fields, key, values)
    faults = st.session_state["faults"]
    for key in [key for key in faults if st.session_state.get(key) is not None]:
        del faults[key]
    return list(faults.values())


def _take(fields: Mapping[str, Field], key: str, told: list[str]) -> None:
    try:
        if key not in fields:
            raise unknown_name("part of a link", key, fields)
        if len(told) > 1:
            raise InvalidInput(f"it is given {len(told)} times; keep one")
        st.session_state[key] = fields[key].read(told[0])
    except InvalidInput as error:
        st.session_state["faults"][key] = f"The link says {key}={shown(told[0])}: {error}"


def forget_faults() -> None:
    """Go on without what the address said wrongly."""
    st.session_state["faults"] = {}


def write_link(fields: Mapping[str, Field]) -> None:
    """The address that opens this very question; what it said wrongly stays until it is answered."""
    values = {key: st.session_state.get(key) for key in fields}
    said = {key: f"{value:.15g}" if isinstance(value, float) else str(value) for key, value in values.items() if value}
    said |= {key: st.query_params[key] for key in st.session_state["faults"] if key in st.query_params}
    if said != st.query_params.to_dict():
        st.query_params.from_dict(said)
