"""What arrives: requests, their times and their lengths."""
