"""The first stage of a search: candidate pages by MaxSim over their vectors, fused with BM25 over their text.

The public class is `recall.Recall`. `planner` decides how the vectors are searched; the parts that it combines are
`memory_part` (a scan in memory), `gpu_scan` (a scan on a GPU) and `inverted` (the inverted index of `ivf`). The
inverted index is built and refreshed by `ivf.upkeep`; `agreement` compares it with exact search.
"""
