"""`streamd --version`: this version, and those of what runs models and decodes."""

from __future__ import annotations

from collections.abc import Iterator


def lines() -> Iterator[str]:
    """`streamd X.Y.Z` first; then what is installed. ONNX Runtime is not loaded: that takes longer than all else."""
    from streamd import __version__

    yield f"streamd {__version__}"
    yield _onnxruntime()
    yield _ffmpeg()


def _onnxruntime() -> str:
    from importlib import metadata

    found = []
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    if not found:
        return "ONNX Runtime: not installed as a package; see `streamd doctor`"
    versions = " and ".join(f"{name} {version}" for name, version in found)
    if len(found) > 1:
        return f"{versions}: one of them is too many; see `streamd doctor`"
    return f"{versions}, built with {', '.join((*_gpu_providers(), 'cpu'))}"


def _gpu_providers() -> Iterator[str]:
    """Those whose library lies beside the module; whether they run here, `streamd doctor` tries."""
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return
    for name in ("tensorrt", "cuda"):
        if (Path(spec.origin).parent / "capi" / f"libonnxruntime_providers_{name}.so").is_file():
            yield name


def _ffmpeg() -> str:
    try:
        from streamd.sources.libav.build import pyav, version
    except (ImportError, OSError):
        return "FFmpeg: PyAV does not load; see `streamd doctor`"
    return f"FFmpeg {version()} (PyAV {pyav()})"
