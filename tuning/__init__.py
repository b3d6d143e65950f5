"""Searches for better hyperparameters; plain names here, so that `--help` can list them without TensorFlow."""

TUNERS = ("random", "bayesian", "hyperband")  # see `oracles`

# What a search can look for: a score of `mmfusion.reports.metrics.overall` -> whether more of it is better.
OBJECTIVES = {"ap_micro": "max", "ap_macro": "max", "lrap": "max", "bce": "min"}
