"""ONNX graphs of known size for benchmarks and tests: random weights from a seed, nobody's training in them."""
