"""``python -m specsim``: the command, where its script is not on the path."""

from specsim.cli.main import run

if __name__ == "__main__":
    run()
