"""`python -m tfzoo` is `tfzoo`."""

import sys

from tfzoo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
