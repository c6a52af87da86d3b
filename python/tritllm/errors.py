"""What tritllm raises. Each kind is also the built-in exception that fits, so that ``except FileNotFoundError`` works."""

from __future__ import annotations

import re

__all__ = ["Error", "InvalidInputError", "NotFoundError", "InputOutputError", "ConflictError", "UnsupportedError"]

_EXPECTATION = re.compile(r"expected (?P<expected>.+?), found (?P<found>.+)", re.DOTALL)


class Error(Exception):
    """A failure with its place and a way out.

    Attributes:
        where: what it is about: a file, a tensor, an argument.
        problem: what is wrong, one sentence.
        remedy: what to do about it; empty where nothing is known.
        expected, found: the two halves of the problem where it is of that form, else None.
    """

    def __init__(self, message: str, where: str = "", problem: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.where, self.problem, self.remedy = where, problem or message, remedy
        halves = _EXPECTATION.search(self.problem)
        self.expected = halves["expected"] if halves else None
        self.found = halves["found"] if halves else None

    def __reduce__(self):
        return type(self), (str(self), self.where, self.problem, self.remedy)


class InvalidInputError(Error, ValueError):
    """An argument out of range, or a file that breaks its format."""


class NotFoundError(Error, FileNotFoundError):
    """A file, tensor or name is missing."""


class InputOutputError(Error, OSError):
    """The operating system refused a read or a write."""


class ConflictError(Error, RuntimeError):
    """Another run, or its results, stand in the way."""


class UnsupportedError(Error, NotImplementedError):
    """Well-formed, but not something this version handles."""
