"""What was measured: schema and files of kernel profiles."""
