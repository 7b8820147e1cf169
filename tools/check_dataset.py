"""The earlier name of `python -m datatools.doctor`."""

import sys

from datatools.doctor import main

if __name__ == "__main__":
    sys.exit(main())
