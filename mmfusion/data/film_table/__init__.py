"""Films from a table of one's own, and a folder of posters."""

from mmfusion.data.film_table.film_table_dataset_builder import Builder, make_builder

__all__ = ["Builder", "make_builder"]
