"""Measuring on judged questions: evaluate, replay, tune, calibrate, data sets."""
