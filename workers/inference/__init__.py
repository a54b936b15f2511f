"""Inference of converted networks: ONNX Runtime on the CPU, torch in batches on a GPU."""
