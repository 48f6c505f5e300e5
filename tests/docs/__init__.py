"""What the documentation shows: its blocks by language, and the commands that stand in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "DEVELOPMENT.md", "SECURITY.md")),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("tools/*.md"),
        *ROOT.glob("examples/*.md"),
    ]
)
_PREFIXES = ("sudo", "nohup", "exec")


@dataclass(frozen=True)
class Block:
    """A block of code of a page. language: as it says, `sh` for an indented one; "" for what is only shown."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    """All of them, of all pages."""
    return [block for page in PAGES for block in _of(page)]


def in_languages(*languages: str) -> list[Block]:
    """Those blocks that say they are in one of these."""
    return [block for block in blocks() if block.language in languages]


def commands(text: str) -> list[list[str]]:
    """The words of each simple command in some shell lines: without assignments, `sudo`, redirections, comments."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in _words(line):
            if set(word) <= set("|&;()"):
                found.append(words)
                words = []
            else:
                words.append(word)
        found.append(words)
    return [stripped for words in found if (stripped := _stripped(words))]


def _of(page: Path) -> list[Block]:
    name = page.relative_to(ROOT).as_posix()
    found, fence, begun, kept = [], None, 0, list[str]()
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        mark = re.match(r"\s*```(\S*)", line)
        if mark and fence is None:
            fence, begun, kept = mark[1], number, []
        elif mark and fence is not None:
            found.append(Block(name, begun, fence, "\n".join(kept) + "\n"))
            fence = None
        elif fence is not None:
            kept.append(line)
    found += _indented(name, lines)
    return found


def _indented(name: str, lines: list[str]) -> list[Block]:
    """Paragraphs that are indented by four, outside of lists and fences: commands, or something shown."""
    found, kept, begun, fenced, before = [], list[str](), 0, False, ""
    for number, line in enumerate([*lines, ""], 1):
        if re.match(r"\s*```", line):
            fenced = not fenced
        if line.startswith("    ") and not fenced and (kept or not before.strip()):
            begun = begun if kept else number
            kept.append(line[4:])
        elif kept:
            if not line.strip() and number <= len(lines):
                kept.append("")
            else:
                text = "\n".join(kept).strip("\n") + "\n"
                is_shell = re.match(
                    r"(?:[A-Z_]+=\S+ )*(?:streamd|python|pytest|pip|hatch|uv|systemctl|sudo)(?: |\n)", text
                )
                found.append(Block(name, begun, "sh" if is_shell else "", text))
                kept = []
        before = line if not kept else ""
    return found


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="()|&;<>")
    lexer.whitespace_split = True
    return list(lexer)


def _stripped(words: list[str]) -> list[str]:
    while words and (words[0] in _PREFIXES or re.fullmatch(r"[A-Z_]+=.*", words[0])):
        words = words[3:] if words[:2] == ["sudo", "-u"] else words[1:]
    kept: list[str] = []
    skipping = False
    for word in words:
        if skipping:
            skipping = False
        elif set(word) <= set("<>"):
            skipping = True
        else:
            kept.append(word)
    return kept
