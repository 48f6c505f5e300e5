"""Text that others wrote, made fit for one line on a terminal."""

from __future__ import annotations


def utf8(text: str) -> str:
    """The text as UTF-8 can carry it: names of files may hold bytes that are none, and become ?."""
    return text.encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """The text on one line: each letter that cannot be printed (line breaks, terminal commands) becomes �."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
