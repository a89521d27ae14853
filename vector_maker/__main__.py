"""``python -m revrnn.vector_maker FOLDER [--check]``."""

import sys

from revrnn.command_line import run_program

from .make import main

if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
