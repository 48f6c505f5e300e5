"""All that is known of a model before it runs: its graph, head, labels, and how it wants its pictures."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamd.core.errors import ConfigError, MissingFileError, ModelError
from streamd.models.catalogue import of_digest
from streamd.models.contract import Fit, Graph, Head, InputContract, Order
from streamd.models.graph import read_graph
from streamd.models.labels import Labels, labels_of
from streamd.models.metadata import is_ultralytics
from streamd.models.presets import PRESETS, preset
from streamd.models.recognition import Found, find_head

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Description:
    """A model file as streamd will run it. `labels[i]` names class i; there are as many floors as labels."""

    path: Path
    sha256: str
    """Of the model file, followed by the files of its external weights, if any; hexadecimal."""
    graph: Graph
    family: str
    head: Head
    head_reason: str
    contract: InputContract
    input_known: bool
    """False when the contract is a guess, which people have to be told."""
    input_reason: str
    labels: tuple[str, ...]
    labels_reason: str

    @property
    def digest(self) -> str:
        """The first 8 digits of `sha256`: enough to tell one's own models apart."""
        return self.sha256[:8]

    @property
    def name(self) -> str:
        """As results carry it: `yolox_nano@3f2a9c1d`."""
        return f"{self.path.stem}@{self.digest}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know: what was found, and what was only guessed."""
        return (
            f"head {self.family}: {self.head_reason}",
            f"input: {self.input_reason}",
            f"labels: {self.labels_reason}",
        )


def is_current(description: Description) -> bool:
    """Whether the model's files still hold what was described. Reads them."""
    try:
        return _sha256(description.graph.files) == description.sha256
    except MissingFileError:
        return False


def describe(
    path: Path,
    *,
    head: str = "auto",
    input: str | InputContract = "auto",
    size: tuple[int, int] | None = None,
    labels: Labels = "auto",
) -> Description:
    """Reads the model at `path` and settles its head, input contract and labels; does not run it.

    head: a name of the table of heads. input: a name of the presets, or the contract itself. size: (height,
    width) for dimensions that the file leaves open. labels: see `streamd.models.labels`. What is left to `auto` is
    taken from the list of known models if the file is one of them, by its bytes.

    Raises MissingFileError, ModelError or ConfigError, each one line that names the file or the key.
    """
    graph = read_graph(path, size)
    digest = _sha256(graph.files)
    known = of_digest(digest)
    told = f"known model {known.name}" if known else ""
    try:
        found = find_head(graph, known.head if known and head == "auto" else head)
        if known and head == "auto":
            found = replace(found, reason=told)
        contract, is_known, reason = _input(found, graph, known.input if known and input == "auto" else input)
        names, source = labels_of(
            found, graph.metadata, known.labels if known and labels == "auto" else labels
        )
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return Description(
        path,
        digest,
        graph,
        found.family.name,
        found.head,
        found.reason,
        contract,
        is_known,
        told if known and input == "auto" else reason,
        names,
        told if known and labels == "auto" else source,
    )


def _input(found: Found, graph: Graph, wanted: str | InputContract) -> tuple[InputContract, bool, str]:
    """The contract, whether it is known, and from where."""
    contract, known, reason = _contract(found, graph, wanted)
    plain = contract.of_bytes()
    if graph.input.dtype != np.uint8 or contract == plain:
        return contract, known, reason
    if isinstance(wanted, InputContract):
        raise ConfigError(
            "input: the model takes uint8, so scale must be 1, mean 0 and std 1: it does them itself"
        )
    return plain, known, f"{reason}; uint8: values stay 0 to 255"


def _contract(found: Found, graph: Graph, wanted: str | InputContract) -> tuple[InputContract, bool, str]:
    if isinstance(wanted, InputContract):
        return wanted, True, "set"
    if wanted != "auto":
        return preset(wanted), True, f"set ({wanted})"
    metadata = graph.metadata
    written = metadata.get("streamd.input", "").strip()
    if written:
        return _written(written), True, "metadata streamd.input"
    family = found.family
    if family.shared:
        return family.contract, True, f"head family {family.name}"
    if len(graph.inputs) > 1:
        # RT-DETR, D-FINE, DEIM and their like: whoever exports with target sizes prepares pictures alike.
        return family.contract, True, f"head family {family.name} with target sizes"
    if is_ultralytics(metadata):  # whose RT-DETR stretches, as the family's contract does
        return family.contract, True, "Ultralytics' metadata"
    named = next((name for name, contract in PRESETS.items() if contract == family.contract), family.name)
    return (
        family.contract,
        False,
        f"guess ({named}): nothing in the file tells how pictures must be prepared; set input to one of "
        f"{', '.join(PRESETS)}, or to {{order, scale, mean, std, fit, fill}}",
    )


def _written(text: str) -> InputContract:
    """The contract from metadata: the name of a preset, or JSON with all fields. Raises ModelError."""
    if text in PRESETS:
        return PRESETS[text]
    try:
        value = json.loads(text)
        mean, std = (tuple(float(part) for part in value[key]) for key in ("mean", "std"))
        contract = InputContract(
            Order(value["order"]),
            float(value["scale"]),
            _three(mean),
            _three(std),
            Fit(value["fit"]),
            int(value["fill"]),
        )
        if not (0 < contract.scale < math.inf and min(contract.std) > 0 and 0 <= contract.fill <= 255):
            raise ValueError("scale and std are above 0, fill is from 0 to 255")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(
            f"its metadata streamd.input holds {text[:60]!r}, neither one of {', '.join(PRESETS)} nor JSON "
            "with order, scale, mean, std, fit and fill; set input"
        ) from error
    return contract


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    if len(values) != 3 or not np.isfinite(values).all():
        raise ValueError("three numbers, one per channel")
    return (values[0], values[1], values[2])


def _sha256(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise MissingFileError(
                f"{file}: cannot read the model file: {error.strerror or error}"
            ) from error
    return digest.hexdigest()
