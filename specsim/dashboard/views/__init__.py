"""What the page shows: one file a view, each a function that takes the answered question and draws."""
