"""The first stage: candidates by MaxSim and BM25. `planner.Recall` is the public class."""
