"""What pip installed: ONNX Runtime, FFmpeg in PyAV, OpenCV, ZeroMQ."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item, State

# Each brings a module of the same name: with two of them, files of both lie in one folder.
_ONNXRUNTIMES = re.compile(r"onnxruntime(-(gpu|openvino|directml|rocm|migraphx|training|qnn))?")
_OPENCVS = re.compile(r"opencv(-contrib)?-python(-headless)?")
_GPU_NAMES = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def pip() -> str:
    """The pip of this Python, for a shell."""
    beside = Path(sys.executable).with_name("pip")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m pip"


def installed(names: re.Pattern[str], path: list[str] | None = None) -> dict[str, str]:
    """The distributions of these names with their versions. path: instead of where Python imports from."""
    found: dict[str, str] = {}
    for one in metadata.distributions(path=sys.path if path is None else path):
        name = (one.metadata["Name"] or "").lower().replace("_", "-").replace(".", "-")
        if names.fullmatch(name):
            found.setdefault(name, one.version)
    return found


def onnxruntime(case: Case, path: list[str] | None = None) -> Iterator[Item]:
    """One distribution and not two, which loads, and has the GPU's providers where there is a GPU."""
    found = installed(_ONNXRUNTIMES, path)
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    good = "onnxruntime-gpu" if sys.platform == "linux" else "onnxruntime"
    version = found.get(good)
    again = f"{pip()} install --force-reinstall --no-deps {good}" + (f"=={version}" if version else "")
    try:
        from streamd.models.creation import available_providers

        providers = available_providers()
    except (ImportError, AttributeError, OSError) as error:
        found_ = f"{shown or 'not installed'}; it does not load: {_brief(error)}"
        state: State = "wrong" if found else "missing"
        fix = f"{_uninstall(found)}{again}" if len(found) > 1 else again
        yield Item(name="onnxruntime", state=state, found=found_, fix=fix, exit_code=1)
        return
    if len(found) > 1:
        text = f"{shown}: both bring the module onnxruntime, and one overwrites the other's files"
        yield Item(name="onnxruntime", state="wrong", found=text, fix=f"{_uninstall(found)}{again}")
        return
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in providers)
    text = f"{shown or 'built from source'}, with {names}"
    gpu = any(name.startswith("GPU ") for name in case.found)
    if gpu and not any(name in providers for name in _GPU_NAMES):
        fix = f"{_uninstall(found)}{pip()} install onnxruntime-gpu"
        yield Item(name="onnxruntime", state="wrong", found=f"{text}: nothing for the GPU", fix=fix)
        return
    yield Item(name="onnxruntime", state="ok", found=text)


def _uninstall(found: dict[str, str]) -> str:
    return f"{pip()} uninstall -y {' '.join(found)}\n" if found else ""


def ffmpeg(case: Case) -> Iterator[Item]:
    """PyAV loads, and which FFmpeg it brings."""
    try:
        from streamd.sources.libav.build import versions
    except (ImportError, OSError) as error:
        fix = f"{pip()} install --force-reinstall --no-deps av"
        yield Item(
            name="FFmpeg", state="wrong", found=f"PyAV does not load: {_brief(error)}", fix=fix, exit_code=1
        )
        return
    yield Item(name="FFmpeg", state="ok", found=versions())


def opencv(case: Case, path: list[str] | None = None) -> Iterator[Item]:
    """One distribution and not two, and it loads."""
    found = installed(_OPENCVS, path)
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    fix = f"{_uninstall(found)}{pip()} install opencv-python-headless"
    try:
        import streamd.models.resize  # noqa: F401 - it is the import that is tried
    except (ImportError, AttributeError, OSError) as error:
        text = f"{shown or 'not installed'}; it does not load: {_brief(error)}"
        yield Item(name="OpenCV", state="wrong" if found else "missing", found=text, fix=fix, exit_code=1)
        return
    if len(found) > 1:
        text = f"{shown}: all bring the module cv2, and one overwrites the other's files"
        yield Item(name="OpenCV", state="wrong", found=text, fix=fix)
        return
    yield Item(name="OpenCV", state="ok", found=shown or "built from source")


def zeromq(case: Case) -> Iterator[Item]:
    """pyzmq loads, and whether it can encrypt."""
    fix = f"{pip()} install --force-reinstall --no-deps pyzmq"
    try:
        from streamd.bus.build import can_encrypt, versions
    except (ImportError, OSError) as error:
        yield Item(
            name="ZeroMQ", state="wrong", found=f"pyzmq does not load: {_brief(error)}", fix=fix, exit_code=1
        )
        return
    if can_encrypt():
        yield Item(name="ZeroMQ", state="ok", found=f"{versions()}, with CURVE")
        return
    config = case.config
    wanted = config is not None and config.publish.curve is not None
    text = f"{versions()}, built without CURVE: the bus cannot be encrypted"
    yield Item(name="ZeroMQ", state="missing", found=text, fix=fix, exit_code=1 if wanted else 0)


def _brief(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
