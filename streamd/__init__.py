"""streamd: real-time object detection on cameras and video files, published over ZeroMQ."""

__version__ = "0.1.0"
