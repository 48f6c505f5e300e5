"""Engines that are a few bytes in files, for a cache of them."""

from __future__ import annotations

from pathlib import Path

from streamd.models.engines import EngineCache, EngineKey

KEY = EngineKey({"model": "a", "gpu": {"name": "x"}, "batches": [1, 8]})
ENGINE = b"an engine" * 1000


def key(name: str) -> EngineKey:
    return EngineKey({"model": name})


def silent(_: str) -> None:
    pass


def write(folder: Path) -> None:
    (folder / "m_sm90.engine").write_bytes(ENGINE)
    (folder / "m_sm90.profile").write_bytes(b"profile")


def never(_: Path) -> None:
    raise AssertionError("built although it was there")


def fill(cache: EngineCache, *keys: EngineKey) -> None:
    for wanted in keys:
        with cache.engine(wanted, write, silent):
            pass


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}
