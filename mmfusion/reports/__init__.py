"""Labels and probabilities in, scores, tables and pictures out: NumPy, scikit-learn and matplotlib."""

import matplotlib

matplotlib.use("Agg")  # pictures go to files; there may be no screen
matplotlib.rcParams["svg.hashsalt"] = "mmfusion"  # the same numbers give the same file
