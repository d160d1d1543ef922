"""Training of the small models that ship: groups of passages in, checksummed ONNX out. Needs the `train` extra."""
