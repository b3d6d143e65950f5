"""Films made on the spot, whose genres are built so that the truth about fusion is known."""

from mmfusion.data.synthetic.synthetic_dataset_builder import Builder, make_builder

__all__ = ["Builder", "make_builder"]
