"""`python -m coinfer`: the command line."""

from coinfer.cli.entry import run

if __name__ == "__main__":
    run()
