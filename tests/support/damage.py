"""Damage done to bytes by a seed: the same seed does the same damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_NASTY = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_START_CODE = b"\0\0\1"


def damaged(content: bytes, seed: int, others: Sequence[bytes] = ()) -> bytes:
    """The content with one to three kinds of damage. others: what pieces to splice in come from."""
    chance = random.Random(seed)
    mixed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 3))):
        chance.choice(_KINDS)(mixed, chance, [content, *others])
    return bytes(mixed)


def _at(mixed: bytearray, chance: random.Random) -> int:
    """A place; every third time in the head, where sizes and tables are."""
    end = min(len(mixed), 2048) if chance.random() < 0.33 else len(mixed)
    return chance.randrange(end) if end else 0


def _length(mixed: bytearray, chance: random.Random) -> int:
    return min(len(mixed), int(2 ** chance.uniform(0, 13)))


def _flip_bits(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    for _ in range(int(2 ** chance.uniform(0, 8)) if mixed else 0):
        mixed[_at(mixed, chance)] ^= 1 << chance.randrange(8)


def _change_bytes(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    for _ in range(int(2 ** chance.uniform(0, 8)) if mixed else 0):
        mixed[_at(mixed, chance)] = chance.randrange(256)


def _fill(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    at, length = _at(mixed, chance), _length(mixed, chance)
    piece = bytes([chance.choice((0, 0xFF, chance.randrange(256)))]) * length
    mixed[at : at + length] = piece[: len(mixed) - at]


def _cut_end(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    del mixed[_at(mixed, chance) :]


def _cut_head(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    del mixed[: _at(mixed, chance)]


def _cut_out(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    at = _at(mixed, chance)
    del mixed[at : at + _length(mixed, chance)]


def _repeat(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    at = _at(mixed, chance)
    piece = mixed[at : at + _length(mixed, chance)]
    mixed[at:at] = piece * chance.choice((1, 1, 2, 8))


def _insert(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    at = _at(mixed, chance)
    mixed[at:at] = chance.randbytes(_length(mixed, chance))


def _swap(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    length = _length(mixed, chance)
    first, second = sorted((_at(mixed, chance), _at(mixed, chance)))
    if first + length <= second and second + length <= len(mixed):
        one, two = mixed[first : first + length], mixed[second : second + length]
        mixed[first : first + length], mixed[second : second + length] = two, one


def _splice(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """Go on with another file, or put a piece of one in."""
    other = chance.choice(list(others))
    at, there = _at(mixed, chance), chance.randrange(len(other) + 1)
    if chance.random() < 0.5:
        mixed[at:] = other[there:]
    else:
        piece = other[there : there + 4 * _length(mixed, chance)]
        mixed[at : at + chance.choice((0, len(piece)))] = piece


def _size_field(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """What stands before the four letters of a box, or any four bytes, says something else."""
    letters = [at for at in range(4, min(len(mixed), 4096) - 4) if mixed[at : at + 4].isalpha()]
    for _ in range(chance.choice((1, 1, 3))):
        at = chance.choice(letters) - 4 if letters and chance.random() < 0.7 else _at(mixed, chance)
        value = chance.choice((*_NASTY, chance.getrandbits(32), chance.getrandbits(12)))
        if chance.random() < 0.3:
            value = (int.from_bytes(mixed[at : at + 4]) + chance.choice((-8, -1, 1, 8))) & 0xFFFFFFFF
        mixed[at : at + 4] = value.to_bytes(4)


def _start_code(mixed: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A NAL unit of another kind, one too many, or one that is not found."""
    starts, at = [], mixed.find(_START_CODE)
    while at >= 0:
        starts.append(at)
        at = mixed.find(_START_CODE, at + 3)
    if not starts or chance.random() < 0.3:
        at = _at(mixed, chance)
        mixed[at:at] = _START_CODE + chance.randbytes(chance.randrange(1, 40))
        return
    for _ in range(chance.choice((1, 2, 5))):
        at = chance.choice(starts)
        if chance.random() < 0.5:
            mixed[at + 3 : at + 4] = bytes([chance.randrange(256)])
        else:
            mixed[at : at + 3] = chance.randbytes(3)


_KINDS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip_bits,
    _flip_bits,
    _change_bytes,
    _fill,
    _cut_end,
    _cut_head,
    _cut_out,
    _repeat,
    _insert,
    _swap,
    _splice,
    _splice,
    _size_field,
    _size_field,
    _start_code,
)
