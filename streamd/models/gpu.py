"""What the GPU is, asked of the driver: an engine that was built for another one must never be loaded."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from streamd.models.libraries import DRIVER, LibraryError

_DRIVER_FILE = Path("/sys/module/nvidia/version")
# CUdevice_attribute of cuda.h
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; `memory` in bytes, `driver` the kernel module's version and "" where it cannot be read."""

    name: str
    compute: str
    multiprocessors: int
    memory: int
    driver: str
    driver_cuda: int


class DriverError(LibraryError):
    """The driver is there and refuses; `code` is its CUresult (cuda.h)."""

    def __init__(self, problem: str, code: int) -> None:
        super().__init__(f"{problem} (CUDA driver error {code})")
        self.code = code


def count_gpus() -> int:
    """How many GPUs the driver gives. Raises LibraryError when there is no driver, DriverError when it refuses."""
    return _count(_started())


def read_gpu(device: int) -> Gpu:
    """The GPU of this number. Raises LibraryError when there is no driver or no such GPU. Any thread."""
    cuda = _started()
    count = _count(cuda)
    if device >= count:
        raise LibraryError(f"there is no GPU {device}: {count} found (set runtime.device)")
    handle, version = ctypes.c_int(), ctypes.c_int()
    _check(cuda.cuDeviceGet(ctypes.byref(handle), device), f"GPU {device} cannot be opened")
    _check(cuda.cuDriverGetVersion(ctypes.byref(version)), "the NVIDIA driver does not tell its version")
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _check(cuda.cuDeviceGetName(name, len(name), handle), f"GPU {device} does not tell its name")
    _check(cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle), f"GPU {device} does not tell its memory")

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        _check(
            cuda.cuDeviceGetAttribute(ctypes.byref(value), number, handle),
            f"GPU {device} has no attribute {number}",
        )
        return value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        compute=f"{attribute(_MAJOR)}.{attribute(_MINOR)}",
        multiprocessors=attribute(_MULTIPROCESSORS),
        memory=memory.value,
        driver=_driver(),
        driver_cuda=version.value,
    )


def _started() -> ctypes.CDLL:
    try:
        cuda = ctypes.CDLL(DRIVER.soname)
    except OSError as error:
        raise LibraryError(f"{DRIVER.soname} is missing ({DRIVER.mended_by})") from error
    _check(cuda.cuInit(0), "the NVIDIA driver does not start")
    return cuda


def _count(cuda: ctypes.CDLL) -> int:
    count = ctypes.c_int()
    _check(cuda.cuDeviceGetCount(ctypes.byref(count)), "the NVIDIA driver does not count its GPUs")
    return count.value


def _driver() -> str:
    try:
        return _DRIVER_FILE.read_text().strip()
    except OSError:
        return ""


def _check(code: int, problem: str) -> None:
    if code != 0:
        raise DriverError(problem, code)
