"""Entry of `python -m collector` and of the frozen binary: a command, or a part that a supervisor starts."""

import os
import sys

from collector.process import handover


def main() -> int:
    if handover.is_child(os.environ):
        from collector.process import part

        return part.run(sys.argv[1])
    from collector import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
