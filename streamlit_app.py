"""The what-if page: ``specsim dashboard``, or ``streamlit run streamlit_app.py``."""

from __future__ import annotations

from specsim.dashboard.page import page

page()
