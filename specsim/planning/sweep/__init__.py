"""Many settings of one scenario: which points, how each is answered, on which machines, and what is kept."""
