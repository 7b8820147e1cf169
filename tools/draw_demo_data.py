"""The earlier name of `python -m datatools.demo`."""

import sys

from datatools.demo import main

if __name__ == "__main__":
    sys.exit(main())
