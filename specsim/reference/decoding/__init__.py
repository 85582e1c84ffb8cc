"""Draft-verify decoding with real models: the engine, sampling, and what a scenario runs."""
