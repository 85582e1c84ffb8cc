"""Shows results: tables, figures, one HTML page."""
