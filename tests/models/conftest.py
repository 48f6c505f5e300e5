"""Machines as tests need them: with a GPU, pretended, or without a proxy."""

from __future__ import annotations

import pytest

from streamd.models import gpu, libraries
from tests.support.gpu import CARD


@pytest.fixture
def pretended_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has all of NVIDIA's libraries and a GPU: what then refuses is ONNX Runtime."""
    monkeypatch.setattr(libraries, "load", lambda _: None)
    monkeypatch.setattr(libraries, "tensorrt_version", lambda: "10.13.0")
    monkeypatch.setattr(libraries, "cuda_runtime_version", lambda: 13000)
    monkeypatch.setattr(gpu, "read_gpu", lambda _: CARD)


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fetched comes from this machine, whatever the environment says."""
    monkeypatch.setenv("no_proxy", "*")
