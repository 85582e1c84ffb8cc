"""What was measured: schema, files and interpolation of kernel profiles."""
