"""Measures the search on judged questions: data sets, evaluation, replay, tuning and calibration."""
