"""Recall: page embeddings, the store, MaxSim, fusion, search, highlights, evaluation."""

from configs.privacy import switch_off_reports

switch_off_reports()
