"""Loading of models: ONNX files, transformers checkpoints, batches by tokens."""
