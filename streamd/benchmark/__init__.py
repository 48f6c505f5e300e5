"""What this box can do: one clip through the whole path, cameras until it is full, and the loop that others write.

Read `meter` (what is counted), then `passes` (one clip), `trial` and `capacity` (cameras), `comparison`.
"""

# First: it tells ONNX Runtime, which `usual` imports, to report nothing.
import streamd.models  # noqa: F401
