"""A model to be fetched that is no more than bytes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from streamd.models.catalogue import KnownModel
from streamd.models.store import ModelStore
from tests.support.model_server import ModelServer

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)


def made(content: bytes = CONTENT, address: str = "https://models.example/made.onnx") -> KnownModel:
    digest = hashlib.sha256(content).hexdigest()
    return KnownModel(
        "made", "nothing", "yolox", "yolox", "coco", (64, 64), "MIT", len(content), digest, address, False
    )


def store(folder: Path, server: ModelServer) -> ModelStore:
    return ModelStore(folder / "models", server.url)


def names(store: ModelStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())
