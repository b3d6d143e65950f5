"""From a configuration and films to a trained run."""
