"""Finds pages: page embeddings, the store, recall, fusion, search, highlights and evaluation."""

from configs.privacy import switch_off_reports

switch_off_reports()
