"""Entry of `python -m collector` and of the frozen binary."""

import sys

from collector.cli import main

if __name__ == "__main__":
    sys.exit(main())
