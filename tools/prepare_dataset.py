"""The earlier name of `python -m datatools.prepare`."""

import sys

from datatools.prepare import main

if __name__ == "__main__":
    sys.exit(main())
