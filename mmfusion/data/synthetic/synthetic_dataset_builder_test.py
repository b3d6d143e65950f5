"""The builder as tensorflow-datasets tests it; it has no files, so its dummy data is a small number."""

import tensorflow_datasets as tfds

from mmfusion.data.synthetic import synthetic_dataset_builder as builder


class SyntheticTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [builder.synthetic_config(films=25, seed=3)]
    SPLITS = {"films": 25}
    EXAMPLE_DIR = str(builder.Path(__file__).parent)
