"""Inverted lists over the pages' vectors: candidates for exact MaxSim, at a cost that grows slower than the corpus."""
