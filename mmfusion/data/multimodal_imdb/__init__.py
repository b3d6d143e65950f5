"""Films from a CSV of overviews and genres and a folder of posters."""

from mmfusion.data.multimodal_imdb.multimodal_imdb_dataset_builder import Builder, make_builder

__all__ = ["Builder", "make_builder"]
