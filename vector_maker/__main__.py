"""``python -m revrnn.vector_maker FOLDER [--check]``."""

import sys

from .make import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
