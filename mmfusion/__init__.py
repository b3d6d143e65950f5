"""Film genres from posters and overviews: unimodal baselines and early, joint and late fusion."""

__version__ = "0.1.0"
