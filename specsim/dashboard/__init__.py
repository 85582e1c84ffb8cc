"""The what-if page (streamlit)."""
