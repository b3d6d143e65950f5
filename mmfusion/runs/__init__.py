"""The run folder: everything of it that a stranger may hand us is read here, without TensorFlow."""

from mmfusion.runs.folder import Predictions, Run, as_parts, check_free

__all__ = ["Predictions", "Run", "as_parts", "check_free"]
