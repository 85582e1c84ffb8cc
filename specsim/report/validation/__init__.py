"""Predicted against measured, shown: tables, figures, one page, one JSON document."""
