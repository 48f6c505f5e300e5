import os

# From 1.29 on ONNX Runtime reports to its makers what it runs, and keeps an identifier and a database in the user's
# cache folder, unless it is told not to before it is imported. Whoever sets the variable decides.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
