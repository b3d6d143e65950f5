"""All of a run as a SavedModel: from files' bytes and texts to probabilities."""

from pathlib import Path

import tensorflow as tf

from mmfusion import inference
from mmfusion.data.in_graph import RawInputs
from mmfusion.inference.export.network import Predict, probabilities_of
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER, TABLE
from mmfusion.training import features


class _Whole(tf.Module):
    """A run from bytes and texts to probabilities."""

    def __init__(self, run: Run):
        super().__init__()
        config, fitted = run.config, run.fitted
        self.raw = RawInputs(config.poster_size, fitted, config.max_tokens)
        self.presets = features.presets_of(run.config)
        self.model = inference.load_model(run)
        self.frozen = [preset.backbone for preset in self.presets.values() if preset.frozen]  # to be saved too

        shapes = {POSTER: [None], OVERVIEW: [None], TABLE: [None, len(fitted.columns)]}
        self.specs = {
            one.plural: tf.TensorSpec(shapes[one], tf.string, one.plural) for one in run.config.in_batches
        }
        readers = {POSTER: self.raw.poster, OVERVIEW: self.raw.tokens, TABLE: self.raw.table}
        readers |= {modality: preset.encoded_in_graph for modality, preset in self.presets.items()}

        @tf.function
        def serve(**films):
            read: dict[str, tf.Tensor] = {one: readers[one](films[one.plural]) for one in run.config.in_batches}
            return {"probabilities": probabilities_of(self.model, self.presets, read)}  # (B, G)

        self.serve = serve


def write(run: Run, folder: Path) -> None:
    """Writes all of a run as a SavedModel into a folder."""
    whole = _Whole(run)
    serve = whole.serve.get_concrete_function(**whole.specs)
    tf.saved_model.save(whole, folder, signatures={"serving_default": serve})


def read(run: Run, folder: Path) -> Predict:
    """Opens what `write` has written."""
    serve = tf.saved_model.load(folder).signatures["serving_default"]

    def predict(films):
        given = {one.plural: films[one] for one in run.config.in_batches}
        if TABLE in run.config.in_batches:
            names = [column.name for column in run.fitted.columns]
            given[TABLE.plural] = [[row.get(name, "") for name in names] for row in films[TABLE]]
        return serve(**{name: tf.constant(of) for name, of in given.items()})["probabilities"].numpy()

    return predict
