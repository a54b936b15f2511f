"""Running converted networks: ONNX Runtime on a processor, torch in batches on a GPU."""
