"""The configuration's sections: what each key is called, what it may hold, and what it is when left out.

Two shapes of the same keys. `File` is what the file may hold, where a stream writes only what differs;
`Config` is resolved, every stream with every value. All are frozen; a component is handed its own section
and never the whole. `streamd.service.loading` reads a file into them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, PrivateAttr, Tag

from streamd.models import contract
from streamd.service import address
from streamd.service.values import (
    Allowed,
    Bind,
    Confidence,
    FilePath,
    Labels,
    Listen,
    ModelFile,
    ModelSize,
    Names,
    ObjectSize,
    Polygon,
    Secret,
    Section,
    Spread,
    Text,
    Threshold,
    Triple,
    Unit,
    Video,
    distinct,
)
from streamd.sources import Kind

ProviderName: TypeAlias = Literal["tensorrt", "cuda", "cpu"]
Intent: TypeAlias = Literal["auto", "live", "every"]


class Input(Section):
    """An input contract written out: value = (pixel * scale - mean) / std, per channel in `order`.

    Every key must be written: a default would be a guess, and a wrong one gives wrong boxes in silence.
    """

    order: Literal["rgb", "bgr"]
    """Which colour the first channel holds."""
    scale: Annotated[float, Field(gt=0), Allowed("a number above 0")]
    """Multiplies the pixel, 0 to 255."""
    mean: Triple
    """Subtracted after scaling, per channel."""
    std: Spread
    """Divides at last, per channel."""
    fit: Literal["topleft", "center", "stretch"]
    """How a picture of another shape is placed into the input."""
    fill: Annotated[int, Field(ge=0, le=255), Allowed("a whole number from 0 to 255")]
    """The pixel value of what the picture leaves free."""

    def contract(self) -> contract.InputContract:
        """The same, as the models' type."""
        order, fit = contract.Order(self.order), contract.Fit(self.fit)
        return contract.InputContract(order, self.scale, self.mean, self.std, fit, self.fill)


class Model(Section):
    """Which model runs, and how its input and outputs are read."""

    path: ModelFile
    """The ONNX file, or the name of a known model."""
    head: Text = "auto"
    """The family of its outputs; auto finds it."""
    input: Annotated[
        Annotated[Text, Tag("<name>")] | Annotated[Input, Tag("<contract>")],
        Discriminator(lambda value: "<name>" if isinstance(value, str) else "<contract>"),
        Allowed("auto, the name of a family, or {order, scale, mean, std, fit, fill}"),
    ] = "auto"
    """What it wants in its input; auto follows metadata or the head, and says when it guessed."""
    size: ModelSize | None = None
    """[height, width] for a model with symbolic sizes; null: [640, 640]."""
    labels: Labels = "auto"
    """The class names; auto: the model's metadata, else COCO for 80 classes, else class_0 and so on."""
    confidence: Threshold = Confidence(0.25)
    """The lowest score that counts."""
    iou: Unit = 0.45
    """Boxes of one class that overlap more than this are one object."""
    classes: Names | None = None
    """Keep only these class names; null: all."""


class Runtime(Section):
    """What executes the model."""

    providers: Annotated[
        tuple[ProviderName, ...],
        Field(strict=False, min_length=1),
        AfterValidator(distinct),
        Allowed("a list of tensorrt, cuda and cpu in the order to try them, each at most once"),
    ] = ("tensorrt", "cuda", "cpu")
    """In the order to try them."""
    fallback: bool = True
    """Whether the next provider may run when the first cannot."""
    precision: Literal["fp16", "fp32"] = "fp16"
    """What TensorRT computes in; CUDA and the CPU compute in the model's own types."""
    cuda_graph: bool = False
    """Whether a GPU replays captured CUDA graphs: less time for each inference of a small model."""
    device: Annotated[int, Field(ge=0, le=63), Allowed("the number of a GPU from 0 to 63")] = 0
    """The GPU's number."""
    cache_dir: FilePath | None = None
    """Where built engines are kept; null: systemd's CACHE_DIRECTORY, else the user's cache folder."""


class Batch(Section):
    """How pictures of several streams are put together."""

    limit: Annotated[int, Field(ge=1, le=256), Allowed("a whole number from 1 to 256")] = 8
    """The most pictures in one inference."""


class Tls(Section):
    """How the server of an encrypted stream is checked."""

    verify: bool = True
    """Whether the server must show a certificate that fits."""
    ca: FilePath | None = None
    """A file of certificate authorities; null: the system's."""


class Settings(Section):
    """What holds for every stream unless the stream says otherwise."""

    enabled: bool = True
    """Whether the stream runs."""
    intent: Intent = "auto"
    """live: the newest frame wins; every: no frame is lost; auto: by the kind of source."""
    max_age_ms: (
        Annotated[int, Field(ge=1, le=60000), Allowed("milliseconds from 1 to 60000, or null")] | None
    ) = 500
    """Live only: a result older than this is dropped; null: no limit."""
    max_fps: (
        Annotated[float, Field(gt=0, le=1000), Allowed("a number above 0, at most 1000, or null")] | None
    ) = None
    """The most frames a second that are looked at; null: all."""
    transport: Literal["auto", "tcp", "udp"] = "auto"
    """RTSP only: how the pictures travel."""
    reader: Literal["auto", "own", "libav"] = "auto"
    """RTSP only: who reads them."""
    timeout_s: Annotated[float, Field(ge=0.1, le=300), Allowed("seconds from 0.1 to 300")] = 5
    """How long a connection may stay silent."""
    tls: Tls = Tls()
    """rtsps and https only."""
    video: Video = "best"
    """Which of several video streams; best: the largest."""
    pace: Literal["media", "fast"] = "media"
    """Files only: as fast as the clip plays, or as fast as it goes."""
    loop: bool = False
    """Files only: start again at the end."""
    hardware: Literal["auto", "cuda", "none"] = "auto"
    """What decodes: the GPU that the model runs on, else the CPU; cuda: told of when it is the CPU; none: the CPU."""
    region: Polygon | None = None
    """A polygon in relative coordinates; objects whose bottom centre lies outside are left out."""
    min_size: ObjectSize | None = None
    """[width, height] in pixels; smaller objects are left out."""
    confidence: Threshold | None = None
    """As in `model`; null: as there."""
    iou: Unit | None = None
    """As in `model`; null: as there."""
    classes: Names | None = None
    """As in `model`, where it is left out; null: all."""


class StreamEntry(Settings):
    """A stream as the file writes it: where it comes from, and what differs from `defaults`."""

    url: Annotated[Text, Allowed(address.SOURCES)]
    """Where the pictures come from."""
    username: Text | None = None
    """The camera's user."""
    password: Secret | None = None
    """The user's password."""


class Stream(Settings):
    """A stream with every value: the stream's own, else the default's, else the model's."""

    id: str
    url: str = Field(repr=False, exclude=True)
    """The address to open; for files an absolute path. It may hold a secret: show `shown_url`."""
    shown_url: str
    """The address for logs and people."""
    kind: Kind
    username: str | None
    password: Secret | None
    confidence: Threshold
    iou: Unit


class Publish(Section):
    """Where results go."""

    bind: Bind = "tcp://127.0.0.1:5560"
    """The ZeroMQ endpoint."""
    group: Text | None = None
    """ipc only: the group that may connect; null: the daemon's own."""
    frames: Bind | None = None
    """A second endpoint for pictures; null: off."""
    frames_max_fps: Annotated[float, Field(gt=0, le=60), Allowed("a number above 0, at most 60")] = 2
    """The most pictures a second and stream."""
    frames_quality: Annotated[int, Field(ge=1, le=100), Allowed("a whole number from 1 to 100")] = 80
    """Of the JPEG."""
    curve: FilePath | None = None
    """A folder of keys: encryption on, only listed clients; null: off."""


class Metrics(Section):
    """What monitoring can ask."""

    listen: Listen | None = "127.0.0.1:9560"
    """HTTP: /metrics /healthz /readyz /streams; null: off."""


class Log(Section):
    """What is logged, and how."""

    level: Literal["trace", "debug", "info", "warning", "error"] = "info"
    """The least important that is shown."""
    format: Literal["auto", "text", "json"] = "auto"
    """auto: text on a terminal and under systemd."""


class File(Section):
    """A whole configuration file."""

    model: Model
    runtime: Runtime = Runtime()
    batch: Batch = Batch()
    defaults: Settings = Settings()
    streams: Annotated[
        dict[str, StreamEntry], Field(min_length=1), Allowed("a mapping of at least one stream")
    ]
    publish: Publish = Publish()
    metrics: Metrics = Metrics()
    log: Log = Log()


class Config(Section):
    """A configuration with nothing left open; nothing in its repr, str or dump is a secret."""

    model: Model
    runtime: Runtime
    batch: Batch
    streams: tuple[Stream, ...]
    """In the order of the file."""
    publish: Publish
    metrics: Metrics
    log: Log
    _secrets: frozenset[str] = PrivateAttr(default=frozenset())

    def secrets(self) -> set[str]:
        """What must never be shown: passwords, and whatever came from a credential, as it was given."""
        return set(self._secrets)

    def effective(self) -> dict[str, Any]:
        """All values as plain data in the file's shape, secrets as `***`."""
        plain = self.model_dump(mode="json")
        plain["streams"] = {stream["id"]: _as_written(stream) for stream in plain["streams"]}
        return plain


def _as_written(stream: dict[str, Any]) -> dict[str, Any]:
    login = {key: stream[key] for key in ("username", "password") if stream[key] is not None}
    rest = {key: stream[key] for key in Settings.model_fields}
    return {"url": stream["shown_url"], **login, **rest}
