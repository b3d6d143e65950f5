"""Searches for hyperparameters with KerasTuner, through the same Config and builder as training."""
