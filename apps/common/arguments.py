"""What is read from the command line: numbers within bounds that are told, and folders."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)


def between(least: Number, most: Number, what: str) -> Callable[[str], Number]:
    """Return a `type` for argparse that reads numbers of the bounds' own type, both included.

    `what` tells, with the bounds, what was expected: `a number of seconds`.
    """

    def read(text: str) -> Number:
        try:
            value = type(least)(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:  # neither is NaN
            raise ArgumentTypeError(f"{what}, {least:g} to {most:.12g}")
        return value

    return read


def folder(text: str) -> Path:
    """Read the name of a folder. Raises ValueError for none: an unset variable names no place."""
    if not text.strip():
        raise ValueError("A folder needs a name.")
    return Path(text)
