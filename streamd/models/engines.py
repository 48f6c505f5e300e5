"""Engines that TensorRT built, kept so that each is built once and none is ever loaded for another model.

ONNX Runtime names an engine file after the graph's names alone: two models of one topology would share it.
So every engine has a folder of its own, named after everything that went into it (`EngineKey`).

    CACHE/<key>/manifest.json         what the key is made of, size and hash of each file; written last
    CACHE/<key>/*.engine ...          what the provider wrote
    CACHE/<key>.build-<random>/       a build under way, or what a killed one left: removed by the next
    CACHE/<key>.lock                  held alone while building or removing, shared while an engine is in use
    CACHE/timings-<key>/              TensorRT's measurements, shared by the models of one GPU

A folder counts only under its final name and when every file is as the manifest says. Locks are the
kernel's (flock): a killed process holds none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from streamd.core.caches import sync
from streamd.core.errors import OutputError

MANIFEST = "manifest.json"
MAX_ENGINES = 8
MAX_BYTES = 8 << 30

Tell = Callable[[str], None]

# In a protobuf: field 1 "location" of an external tensor, then field 2, whose length is a varint.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]*[\x00-\x7f])")


class EngineError(Exception):
    """No engine could be had from the cache or built into it; the message says why."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on, by name, and the hash of it all."""

    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        canonical = json.dumps(self.parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def model_digest(model: Path) -> str:
    """SHA-256 over a model's bytes and those of the files that it keeps tensors in. Raises OSError."""
    total = hashlib.sha256()
    with model.open("rb") as file:
        total.update(hashlib.file_digest(file, "sha256").digest())
    for name in sorted(_external_files(model)):
        path = model.parent / name
        total.update(name.encode("utf-8", "surrogateescape") + b"\0")
        if path.is_file():
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _external_files(model: Path) -> set[str]:
    """Names that look like those of external tensors. One too many only makes the key more careful."""
    if model.stat().st_size == 0:
        return set()
    found = set()
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        for match in _LOCATION.finditer(raw):
            length = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(match[1]))
            if 0 < length < 4096:
                found.add(os.fsdecode(raw[match.end() : match.end() + length]))
    return {name for name in found if "\0" not in name}


@dataclass(frozen=True, slots=True)
class EngineCache:
    """A folder of engines, shared by any number of processes on one machine."""

    folder: Path
    max_engines: int = MAX_ENGINES
    max_bytes: int = MAX_BYTES

    def timings(self, key: EngineKey, names: tuple[str, ...]) -> Path:
        """The folder for TensorRT's measurements: shared by all keys that agree in these parts."""
        shared = EngineKey({name: key.parts[name] for name in names})
        return self.folder / f"timings-{shared.digest[:16]}"

    @contextmanager
    def engine(self, key: EngineKey, build: Callable[[Path], None], tell: Tell) -> Iterator[Path]:
        """The folder of a verified engine, kept from removal while the `with` lasts.

        Built by `build(folder)` when it is not there; while another process builds it, this one waits.
        `tell` is given a line for people before each long wait and for each thing thrown away.
        Leave the `with` once the engine is loaded: until then a process that must build it anew waits.
        Blocks for minutes. Raises EngineError, OutputError when the folder cannot be written, and whatever
        `build` raises.
        """
        try:
            self._prepare()
        except OutputError:
            # An image that brings its engines along: where nobody can write, nobody takes them away either.
            if self.flaw(key) is not None:
                raise
            yield self.folder / key.digest
            return
        lock = self._open_lock(key.digest)
        try:
            try:
                self._obtain(key, build, tell, lock)
            except OSError as error:
                raise OutputError(
                    f"the engine cache {self.folder} fails: {error.strerror or error}"
                ) from error
            yield self.folder / key.digest
        finally:
            os.close(lock)

    def _obtain(self, key: EngineKey, build: Callable[[Path], None], tell: Tell, lock: int) -> None:
        """Returns with the lock shared and the engine verified."""
        final = self.folder / key.digest
        while True:
            _lock(lock, fcntl.LOCK_SH, "another process builds this engine; waiting for it", tell)
            flaw = self.flaw(key)
            if flaw is None:
                os.utime(final / MANIFEST)
                return
            # There is no step from shared to alone without a gap, in which others may build: so look again.
            fcntl.flock(lock, fcntl.LOCK_UN)
            _lock(lock, fcntl.LOCK_EX, "another process builds this engine; waiting for it", tell)
            flaw = self.flaw(key)
            if flaw is not None:
                if flaw:
                    tell(f"the cached engine {key.digest[:12]} is thrown away and built again: {flaw}")
                self._build(key, build)
                self._prune(key, tell)
            fcntl.flock(lock, fcntl.LOCK_UN)

    def _prepare(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            problem = f"the engine cache {self.folder} cannot be written: {error.strerror or error}"
            raise OutputError(f"{problem}; set runtime.cache_dir") from error

    def _open_lock(self, digest: str) -> int:
        return os.open(self.folder / f"{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def seems_to_hold(self, key: EngineKey) -> bool:
        """Whether an engine is there whose files have the right names and sizes. Waits for nobody."""
        return self.flaw(key, read=False) is None

    def flaw(self, key: EngineKey, *, read: bool = True) -> str | None:
        """None for an engine to trust, "" when there is none, else what is wrong with it.

        Reads all of it; with `read=False` names and sizes alone count.
        """
        final = self.folder / key.digest
        if not final.exists():
            return ""
        try:
            manifest = json.loads((final / MANIFEST).read_bytes())
            files = manifest["files"]
            if EngineKey(manifest["key"]).digest != key.digest:
                return "its manifest is of another one"
            if not any(name.endswith(".engine") for name in files):
                return "its manifest names no engine"
            # The provider loads whatever engine it finds, also one that it wrote outside a build.
            if any(path.name not in files for path in final.glob("*.engine")):
                return "it holds an engine that its build did not make"
            for name, (size, digest) in files.items():
                path = final / name
                if path.stat().st_size != size:
                    return f"{name} has another size than when it was built"
                if not read:
                    continue
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        return f"{name} has other bytes than when it was built"
        except OSError as error:
            return f"{Path(error.filename or final).name}: {error.strerror or error}"
        except (ValueError, KeyError, TypeError, AttributeError):
            return "its manifest cannot be read"
        return None

    def _build(self, key: EngineKey, build: Callable[[Path], None]) -> None:
        """Under the lock, alone. Nothing has the final name before all of it is on the disk."""
        final = self.folder / key.digest
        for left in (*self.folder.glob(f"{key.digest}.build-*"), *self.folder.glob(f"{key.digest}.gone-*")):
            shutil.rmtree(left, ignore_errors=True)
        try:
            if final.exists():
                _discard(final)
            work = Path(tempfile.mkdtemp(prefix=f"{key.digest}.build-", dir=self.folder))
            try:
                build(work)
                # A temporary folder is its maker's alone; whoever may read the cache may read what is in it.
                work.chmod(stat.S_IMODE(self.folder.stat().st_mode))
                _seal(work, key)
                work.rename(final)
                sync(self.folder)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        except OSError as error:
            raise OutputError(
                f"the engine cannot be kept in {self.folder}: {error.strerror or error}"
            ) from error

    def _prune(self, key: EngineKey, tell: Tell) -> None:
        """Removes what killed builds left, and the engines used longest ago that are over the limits."""
        for left in (*self.folder.glob("*.build-*"), *self.folder.glob("*.gone-*")):
            self._alone(left.name.partition(".")[0], partial(shutil.rmtree, left, ignore_errors=True))
        kept, room = 0, self.max_bytes
        for _, folder, size in sorted(_entries(self.folder), reverse=True):
            kept, room = kept + 1, room - size
            over = kept > self.max_engines or room < 0
            if over and folder.name != key.digest and self._alone(folder.name, partial(_discard, folder)):
                tell(f"the engine {folder.name[:12]} is removed from the cache, which is full")
                kept, room = kept - 1, room + size

    def _alone(self, digest: str, act: Callable[[], object]) -> bool:
        """Does it if nobody uses or builds this engine; our own lock is another digest's."""
        lock = self._open_lock(digest)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            act()
        except OSError:
            return False
        finally:
            os.close(lock)
        return True


def _lock(lock: int, kind: int, message: str, tell: Tell) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        tell(message)
        fcntl.flock(lock, kind)


def _seal(work: Path, key: EngineKey) -> None:
    """Puts the files onto the disk and says in the manifest what they are."""
    files = {}
    for path in sorted(path for path in work.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[str(path.relative_to(work))] = (path.stat().st_size, digest)
    if not any(name.endswith(".engine") for name in files):
        raise EngineError("TensorRT built no engine for this model")
    manifest = work / MANIFEST
    with manifest.open("w", encoding="utf-8") as out:
        json.dump({"key": key.parts, "files": files}, out, indent=1, sort_keys=True)
        out.flush()
        os.fsync(out.fileno())
    sync(work)


def _discard(folder: Path) -> None:
    """Takes the name away first, so that a kill in between leaves nothing under it."""
    gone = Path(tempfile.mkdtemp(prefix=f"{folder.name}.gone-", dir=folder.parent))
    try:
        folder.rename(gone / folder.name)
    finally:
        shutil.rmtree(gone, ignore_errors=True)


def _entries(folder: Path) -> Iterator[tuple[int, Path, int]]:
    """Each engine's last use, folder and bytes; what another process removes meanwhile is left out."""
    for manifest in folder.glob(f"*/{MANIFEST}"):
        if re.fullmatch("[0-9a-f]{64}", manifest.parent.name):
            try:
                files = json.loads(manifest.read_bytes())["files"]
                yield manifest.stat().st_mtime_ns, manifest.parent, sum(size for size, _ in files.values())
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                yield 0, manifest.parent, 0  # broken, so the first to go
