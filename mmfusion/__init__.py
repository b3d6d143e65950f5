"""Film genres from posters and overviews: unimodal baselines and early, joint and late fusion."""

from mmfusion.startup import quiet_tensorflow

__version__ = "0.1.0"

quiet_tensorflow()
