"""Films from files, downloads or nothing at all, as one source of batches."""

# Every data set: its name on the command line -> the package of its tensorflow-datasets builder.
# Plain names, so that `--help` can list them without importing TensorFlow.
DATASETS = {
    "synthetic": "mmfusion.data.synthetic",
    "multimodal_imdb": "mmfusion.data.multimodal_imdb",
    "mmimdb": "mmfusion.data.mmimdb",
}
