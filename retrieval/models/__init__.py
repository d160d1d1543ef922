"""Loads ONNX files and transformers checkpoints, and forms batches by tokens."""
