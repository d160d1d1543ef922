"""Training of the rerankers that ship. Needs the `train` extra."""
