"""specsim predicts what speculative decoding does to LLM serving, and proves it against real runs."""

__version__ = "0.1.0"
