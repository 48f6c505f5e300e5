"""NVIDIA's libraries: loaded from where pip puts them, or named when one is missing.

ONNX Runtime loads its CUDA and TensorRT providers late and, where a library is missing, prints to stderr and
serves from the CPU. So every library that a provider links is loaded here first: from NVIDIA's wheels in
site-packages, else from where the system's loader looks. `onnxruntime.preload_dlls` does the same for CUDA
but prints its failures to stdout, which belongs to results, and knows nothing of TensorRT.
What each provider links: `readelf -d libonnxruntime_providers_{cuda,tensorrt}.so` of onnxruntime-gpu 1.31.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

INSTALL = 'pip install "streamd[tensorrt]"'


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library by its soname, with the folder below site-packages where a wheel puts it."""

    soname: str
    folder: str
    mended_by: str = INSTALL
    needed: bool = True


# In the order in which one needs the other. The major versions are those that onnxruntime links.
DRIVER = Library("libcuda.so.1", "", "install NVIDIA's driver, or give the container its GPU (--gpus all)")
CUDA = (
    DRIVER,
    Library("libcudart.so.13", "nvidia/cu13/lib"),
    Library("libcublasLt.so.13", "nvidia/cu13/lib"),
    Library("libcublas.so.13", "nvidia/cu13/lib"),
    Library("libcurand.so.10", "nvidia/cu13/lib"),
    Library("libnvrtc.so.13", "nvidia/cu13/lib", needed=False),
    Library("libcufft.so.12", "nvidia/cu13/lib", needed=False),
    Library("libcudnn.so.9", "nvidia/cudnn/lib"),
)
TENSORRT = (
    *CUDA,
    Library("libnvinfer.so.10", "tensorrt_libs"),
    Library("libnvinfer_plugin.so.10", "tensorrt_libs", needed=False),
    Library("libnvonnxparser.so.10", "tensorrt_libs"),
)

# Where Debian's packages, and NVIDIA's own, put libraries.
_SYSTEM = ("usr/lib/*-linux-gnu", "usr/local/cuda*/lib64", "usr/lib64")


class LibraryError(Exception):
    """A library cannot be loaded; the message names it, the reason and what mends it."""


def load(libraries: tuple[Library, ...], site_packages: Path | None = None) -> None:
    """Loads the libraries into the process, visible to those loaded later. Raises LibraryError.

    `site_packages`: where to look for wheels instead of everywhere that Python imports from. Loading twice
    does nothing. Any thread; blocks on reading some hundred megabytes the first time.
    """
    roots = [site_packages] if site_packages else [Path(entry) for entry in sys.path if entry]
    for library in libraries:
        try:
            _open(library, roots)
        except OSError as error:
            if library.needed:
                raise LibraryError(f"{_reason(library, error)} ({library.mended_by})") from error


def other_versions(library: Library, site_packages: Path | None = None) -> list[Path]:
    """Files of this library in another major version, in wheels and where a system keeps libraries."""
    roots = [site_packages] if site_packages else [Path(entry) for entry in sys.path if entry]
    folders = [root / library.folder for root in roots if library.folder]
    if site_packages is None:
        folders += [folder for place in _SYSTEM for folder in Path("/").glob(place)]
    name, _, major = library.soname.rpartition(".")
    return sorted(
        file
        for folder in folders
        for file in folder.glob(f"{name}.[0-9]*")
        if not f"{file.name}.".startswith(f"{name}.{major}.")
    )


def _open(library: Library, roots: list[Path]) -> ctypes.CDLL:
    wheels = (root / library.folder / library.soname for root in roots if library.folder)
    found = next((str(wheel) for wheel in wheels if wheel.is_file()), library.soname)
    return ctypes.CDLL(found, mode=os.RTLD_GLOBAL | os.RTLD_NOW)


def _reason(library: Library, error: OSError) -> str:
    text = " ".join(str(error).split())
    if text.startswith(f"{library.soname}: cannot open shared object file"):
        return f"{library.soname} is missing"
    return f"{library.soname} cannot be loaded: {text}"


def tensorrt_version() -> str:
    """The version of the TensorRT that is loaded, from the library itself. Raises LibraryError."""
    inference = _loaded("libnvinfer.so.10")
    number = inference.getInferLibVersion()
    # major * 10000 + minor * 100 + patch since TensorRT 10
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def cudnn_version() -> str:
    """The version of the cuDNN that is loaded, from the library itself. Raises LibraryError."""
    ask = _loaded("libcudnn.so.9").cudnnGetVersion
    ask.restype = ctypes.c_size_t
    number = ask()
    # major * 10000 + minor * 100 + patch since cuDNN 9
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def cuda_runtime_version() -> int:
    """The CUDA runtime that is loaded, 13000 for 13.0. Raises LibraryError."""
    version = ctypes.c_int()
    code = cuda_runtime().cudaRuntimeGetVersion(ctypes.byref(version))
    if code != 0:
        raise LibraryError(f"the CUDA runtime does not tell its version (error {code})")
    return version.value


def cuda_runtime() -> ctypes.CDLL:
    """The CUDA runtime that is loaded, the one that ONNX Runtime uses. Raises LibraryError."""
    return _loaded("libcudart.so.13")


def _loaded(soname: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(soname)
    except OSError as error:
        raise LibraryError(f"{soname} is not loaded: {error}") from error
