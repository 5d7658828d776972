"""Models for other runtimes: ONNX graphs, and StableHLO programs that need JAX but not this package."""
