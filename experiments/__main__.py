"""``python -m revrnn.experiments COMMAND``: the paper's experiments."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from revrnn.command_line import INTERRUPTED, run_program
from revrnn.errors import RevRNNError

# By command, what it runs, imported when asked for, since frameworks take seconds to import, and
# what it does.
COMMANDS = {
    "lm": (".lm.command", "language modelling: Penn Treebank, WikiText-2"),
    "lm-sweep": (".lm.sweep", "all language models of the comparison, and a table"),
    "nmt": (".nmt.command", "translation with attention: Multi30K, IWSLT"),
    "nmt-sweep": (".nmt.sweep", "all translation models of the comparison, and a table"),
    "memory": (
        ".memory_task.command",
        "repeating a sequence: what a network that cannot forget cannot do",
    ),
    "steps": (".steps", "the memory of an update against the length of a segment"),
    "forgetting": (".forgetting", "what each unit of a trained RevGRU forgets, word by word"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run an experiment; return 0, 2 for bad input or no memory, 130 if interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    about = "The paper's experiments; docs/experiments.md has data and files."
    parser = argparse.ArgumentParser(prog="python -m revrnn.experiments", description=about)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, text) in COMMANDS.items():
        own = commands.add_parser(name, help=text, description=text)
        if words[:1] == [name]:
            importlib.import_module(module, __package__).add_arguments(own)
    given = vars(parser.parse_args(words))
    module = COMMANDS[given.pop("command")][0]
    # Imported here, where a package that is missing has its message.
    from .progress import PlainConsole

    console = PlainConsole()
    try:
        importlib.import_module(module, __package__).run(given, console)
    except RevRNNError as error:
        _tell(console, str(error))
        return 2
    except BrokenPipeError:  # ended by whom the output was for
        raise
    except OSError as error:
        # Of files of a run an error has the name; what has none was on its way to the terminal.
        place = "standard output" if error.filename is None else error.filename
        _tell(console, f"out: {place}: {error.strerror or error}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        _tell(console, f"memory: {first}; smaller sizes, batch_size first, need less")
        return 2
    except KeyboardInterrupt:
        more = " --resume" if "resume" in given else ""
        there = (given["out"] / "config.json").exists() if more else given["out"].is_dir()
        go_on = f"; go on with --out {given['out']}{more}" if there else ""
        console.print(f"interrupted{go_on}", markup=False, soft_wrap=True)
        return INTERRUPTED
    return 0


def _lacks_memory(error: Exception) -> bool:
    """Say whether an array had no room: NumPy's error, PyTorch's, or XLA's."""
    told = str(error)
    words = ("can't allocate memory", "out of memory", "RESOURCE_EXHAUSTED")
    return isinstance(error, MemoryError) or any(each in told for each in words)


def _tell(console: Any, text: str) -> None:
    """Print why a run ends, on standard error where standard output takes no more."""
    try:
        console.print(text, markup=False, style="red", soft_wrap=True)
    except OSError:
        print(text, file=sys.stderr)


if __name__ == "__main__":
    run_program(main, "experiments")
