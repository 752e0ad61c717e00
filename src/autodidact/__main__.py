"""``python -m autodidact``."""

import sys

from autodidact.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
