"""Trained weights as files for other runtimes: ONNX (any runtime, any picture size) and StableHLO (JAX to JAX)."""
