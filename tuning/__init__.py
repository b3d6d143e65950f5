"""Searches for better hyperparameters; plain names here, so that `--help` can list them without TensorFlow."""

from mmfusion.evaluation.metrics import METRICS

TUNERS = ("random", "bayesian", "hyperband")  # see `oracles`

# What a search can look for -> whether more of it is better.
OBJECTIVES = {metric.name: metric.objective for metric in METRICS if metric.objective}
