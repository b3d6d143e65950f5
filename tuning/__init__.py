"""Empty so far: searches for hyperparameters with KerasTuner will live here."""
