"""Recall: page embeddings, the store, MaxSim, fusion, search, highlights, evaluation."""
