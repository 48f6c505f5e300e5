"""Every check, in the order in which they are made: what one looks at, those before it have found."""

from __future__ import annotations

from streamd.diagnosis import (
    configuration,
    endpoints,
    folders,
    machine,
    nvidia,
    packages,
    supervision,
    trials,
)
from streamd.diagnosis.finding import Check

_TENSORRT, _CUDA, _CPU = (trials.Provider(name) for name in trials.PROVIDERS)

CHECKS = (
    Check("configuration", configuration.configuration, 30, needed=lambda case: case.path is not None),
    Check("files", configuration.files, with_config=True, needed=lambda case: True),
    Check("credentials", configuration.credentials),
    Check("processor", machine.processor),
    Check("memory", machine.memory),
    Check("open files", machine.open_files),
    Check("clock", machine.clock),
    Check(nvidia.DRIVER, nvidia.driver, 60),
    Check("onnxruntime", packages.onnxruntime, 60, needed=lambda case: True),
    Check("FFmpeg", packages.ffmpeg, 60, needed=lambda case: True),
    Check("OpenCV", packages.opencv, 60, needed=lambda case: True),
    Check("ZeroMQ", packages.zeromq, 60, needed=lambda case: True),
    Check("CUDA", nvidia.cuda, 120),
    Check("cuDNN", nvidia.cudnn, 120),
    Check("TensorRT", nvidia.tensorrt, 120),
    # TensorRT builds an engine for it; the first use of CUDA compiles kernels where the GPU is new.
    Check("provider tensorrt", _TENSORRT, 300, needed=_TENSORRT.needed),
    Check("provider cuda", _CUDA, 120, needed=_CUDA.needed),
    Check("provider cpu", _CPU, 60, needed=_CPU.needed),
    Check("H.264", trials.Decoder("H.264", "trial_h264.mp4", gpu=False), 60, needed=lambda case: True),
    Check("H.265", trials.Decoder("H.265", "trial_h265.mp4", gpu=False), 60, needed=lambda case: True),
    Check("H.264 on NVDEC", trials.Decoder("H.264 on NVDEC", "trial_h264.mp4", gpu=True), 60),
    Check("H.265 on NVDEC", trials.Decoder("H.265 on NVDEC", "trial_h265.mp4", gpu=True), 60),
    Check("model", configuration.model, 120, with_config=True, needed=lambda case: True),
    Check("cache", folders.cache),
    Check("publish", endpoints.publish, with_config=True, needed=lambda case: True),
    Check("publish.group", endpoints.group, with_config=True, needed=lambda case: True),
    Check("metrics.listen", endpoints.metrics, with_config=True, needed=lambda case: True),
    Check("systemd unit", supervision.unit),
)
