"""The run folder: everything of it that a stranger may hand us is read here, without TensorFlow."""

from mmfusion.runs.folder import Run, as_parts, check_free
from mmfusion.runs.predictions import Predictions

__all__ = ["Predictions", "Run", "as_parts", "check_free"]
