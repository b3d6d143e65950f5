"""Scores and comparisons of predictions, with NumPy, SciPy and scikit-learn."""
