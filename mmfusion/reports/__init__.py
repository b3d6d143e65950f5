"""Labels and probabilities in, scores, tables and pictures out: NumPy, scikit-learn and matplotlib."""
