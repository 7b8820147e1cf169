"""The earlier name of `python -m datatools.fetch`."""

import sys

from datatools.fetch import main

if __name__ == "__main__":
    sys.exit(main())
