"""What a command raises for its user."""

from __future__ import annotations


class CommandError(Exception):
    """Something the user can put right: printed as a sentence, exit code 2.

    Args:
        message: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
