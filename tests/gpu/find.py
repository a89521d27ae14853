"""Says whether PyTorch sees a GPU; with ``--require-gpu`` it is an error if not."""

from __future__ import annotations

import argparse
import sys

import torch


def main(arguments: list[str] | None = None) -> int:
    """Print one line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--require-gpu", action="store_true")
    options = parser.parse_args(arguments)
    if torch.cuda.is_available():
        print(f"GPU: {torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
        return 0
    print("no GPU here: kernels are interpreted and compiled, and nothing is measured")
    return int(options.require_gpu)


if __name__ == "__main__":
    sys.exit(main())
