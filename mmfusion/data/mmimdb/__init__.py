"""MM-IMDb (Arevalo et al. 2017) from its own archive or folder."""

from mmfusion.data.mmimdb.mmimdb_dataset_builder import Builder, make_builder

__all__ = ["Builder", "make_builder"]
