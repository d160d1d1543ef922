"""Trains encoders and mines the groups for it. The small models need the extra `train`, the large ones `gpu`."""
