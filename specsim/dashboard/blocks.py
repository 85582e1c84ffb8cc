"""A report's blocks on the page: the same text, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from specsim.dashboard.drawing import plain, show
from specsim.report.document.blocks import Bullets, Chart, DocumentBlock, Listing, Paragraph
from specsim.report.sheet import Sheet


def draw(blocks: Sequence[DocumentBlock], key: str) -> None:
    """Each block in turn; ``key`` tells this place of the page from others."""
    for number, block in enumerate(blocks):
        if isinstance(block, Paragraph):
            st.markdown(plain(block.text))
        elif isinstance(block, Bullets):
            st.markdown("\n".join(f"- {plain(line)}" for line in block.lines))
        elif isinstance(block, Listing):
            st.code(block.text, language=block.language or None, wrap_lines=True)
        elif isinstance(block, Chart):
            show(block.figure, f"{key} {number}", block.caption or key)
            if block.caption:
                st.caption(plain(block.caption))
        else:
            draw_sheet(block)


def draw_sheet(sheet: Sheet) -> None:
    """A table of text cells; numbers are already written as people read them."""
    if sheet.title:
        st.caption(plain(sheet.title))
    names = [" ".join(column.replace("-\n", "").split()) or " " for column in sheet.header]
    names = [name if names.index(name) == index else f"{name} {index}" for index, name in enumerate(names)]
    rows = [{name: " ".join(cell.split()) for name, cell in zip(names, row, strict=True)} for row in sheet.rows]
    sides = {
        name: st.column_config.TextColumn(name, alignment="left" if index in sheet.words else "right")
        for index, name in enumerate(names)
    }
    st.dataframe(rows, hide_index=True, column_config=sides)
    if sheet.note:
        st.caption(plain(sheet.note))
