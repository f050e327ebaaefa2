"""``python -m suite``: the same commands as the console command ``suite``."""

from suite.cli import main

if __name__ == "__main__":
    main()
