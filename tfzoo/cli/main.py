"""tfzoo: from text to a trained, exported and proven TensorFlow model.

Usage:

    tfzoo quickstart
    tfzoo COMMAND [--flag=value ...]
    tfzoo COMMAND --help
    tfzoo --version
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import absl.logging
from absl import flags

import tfzoo
from tfzoo.cli import convert, demo, evaluate, export, predict, prepare, quickstart, show, train, verify
from tfzoo.cli import list as list_command
from tfzoo.errors import TfzooError, UsageError, nearest


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: its module, and the flag that an argument without a name fills."""

    module: ModuleType
    positional: str | None = None


COMMANDS = {
    "list": Command(list_command),
    "show": Command(show, positional="recipe"),
    "quickstart": Command(quickstart),
    "prepare": Command(prepare),
    "train": Command(train),
    "evaluate": Command(evaluate),
    "predict": Command(predict),
    "export": Command(export),
    "verify": Command(verify, positional="artifact"),
    "convert": Command(convert),
    "demo": Command(demo, positional="artifact"),
}

_HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after `tfzoo`; None = those of this process.

    Returns: the exit code: 0, 2 for a usage error, 130 when interrupted, 141 when the reader of the output went away,
        1 for any other failure that has a clear message.
    """
    try:
        _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except TfzooError as error:
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt as interrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # ends the line of the progress bar
        return _fail(str(interrupt) or "interrupted.", 130)
    return 0


def _fail(message: str, status: int) -> int:
    print("tfzoo:", " ".join(message.splitlines()), file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in _HELP:
        print(_overview())
        return
    name, *rest = arguments
    if name == "--version":
        print(tfzoo.__version__)
        return
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}.{nearest(name, COMMANDS)} `tfzoo --help` lists all.")
    command = COMMANDS[name]
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)
    command.module.define_flags(flag_values)
    if any(argument in _HELP for argument in rest):
        print(_help(command, flag_values))
        return
    _parse(name, command, flag_values, rest)
    _configure_logging()
    command.module.run(flag_values)


def _parse(name: str, command: Command, flag_values: flags.FlagValues, arguments: list[str]) -> None:
    see = f"See `tfzoo {name} --help`."
    try:
        _, *bare = flag_values([f"tfzoo {name}", *arguments])
    except flags.UnrecognizedFlagError as error:
        hint = nearest(f"--{error.flagname}", [f"--{known}" for known in flag_values])
        raise UsageError(f"`tfzoo {name}` has no flag --{error.flagname}.{hint} {see}") from error
    except flags.Error as error:
        raise UsageError(f"{error}. {see}") from error
    if bare and command.positional and flag_values[command.positional].value is None:
        flag_values[command.positional].value = bare.pop(0)
    if bare:
        raise UsageError(f"`tfzoo {name}` does not take the argument {bare[0]!r}. {see}")


class _Messages(logging.Handler):
    """Writes tfzoo's own messages to standard error, and of those of other libraries the errors."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or Path(record.pathname).is_relative_to(Path(tfzoo.__file__).parent):
            print(record.getMessage(), file=sys.stderr)


def _configure_logging() -> None:
    """Shows the library's own messages, and silences TensorFlow's below an error, before anything imports it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    absl.logging.set_verbosity(absl.logging.INFO)
    logger = absl.logging.get_absl_logger()
    # absl's own handler complains that flags are not parsed its way; the root logger would say everything again.
    logger.handlers = [_Messages()]
    logger.propagate = False


def _overview() -> str:
    summaries = {name: (command.module.__doc__ or "").splitlines()[0] for name, command in COMMANDS.items()}
    lines = [f"    {name:<12}{summary}" for name, summary in summaries.items()]
    return "\n".join([(__doc__ or "").strip(), "", "Commands:", "", *lines])


def _help(command: Command, flag_values: flags.FlagValues) -> str:
    lines = []
    for name in flag_values:
        flag = flag_values[name]
        text = " ".join(f"--{name}: {flag.help}".split())
        if flag.default not in (None, False, []):
            text += f" (default: {(flag.default_as_str or '').strip(chr(39))})"
        lines.append(textwrap.fill(text, width=100, initial_indent="    ", subsequent_indent="        "))
    return "\n".join([(command.module.__doc__ or "").strip(), "", "Flags:", "", *lines])
