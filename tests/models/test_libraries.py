"""NVIDIA's libraries: where they are looked for, and what is said of those that are not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec._core
import pytest

from streamd.models import gpu, libraries
from tests.support.gpu import needs_no_gpu


def test_a_missing_library_is_named_with_what_mends_it(tmp_path: Path) -> None:
    odd = libraries.Library("libnowhere.so.7", "some/wheel")
    with pytest.raises(libraries.LibraryError) as caught:
        libraries.load((odd,), tmp_path)
    assert str(caught.value) == 'libnowhere.so.7 is missing (pip install "streamd[tensorrt]")'


def test_a_library_that_cannot_be_loaded_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "libbroken.so.1").write_bytes(b"\x7fELF, but no more")
    with pytest.raises(libraries.LibraryError, match=r"^libbroken.so.1 cannot be loaded: .*file too short"):
        libraries.load((libraries.Library("libbroken.so.1", "some"),), tmp_path)


def test_libraries_are_found_where_wheels_put_them(tmp_path: Path) -> None:
    placed = tmp_path / "some" / "libstreamdhere.so.1"
    placed.parent.mkdir()
    shutil.copy(msgspec._core.__file__, placed)  # any shared library will do
    libraries.load((libraries.Library(placed.name, "some"),), tmp_path)
    assert str(placed) in Path("/proc/self/maps").read_text()


@needs_no_gpu
def test_without_a_driver_the_gpu_is_a_clear_line() -> None:
    with pytest.raises(libraries.LibraryError, match=r"libcuda.so.1 is missing \(install NVIDIA's driver"):
        gpu.read_gpu(0)
