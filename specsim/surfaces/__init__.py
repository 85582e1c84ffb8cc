"""Times between and beyond measured shapes, how sure they are, and which shapes to keep."""
