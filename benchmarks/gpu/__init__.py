"""Measurements on a GPU, with models of full size and random weights. `benchmarks.gpu_run` runs them in one call."""
