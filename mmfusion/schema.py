"""The batch contract: what every data set yields and every model reads.

One element of the source is a tuple with an entry for each modality, in the order of `MODALITIES`, and the labels:

    poster    (B, H, W, 3)  float32 in [0, 1]   all zeros: no poster
    overview  (B, T)        int32 tokens        0 padding, 1 out of vocabulary; all padding: no overview
    table     (B, C, 3)     float32             a column each: see `mmfusion.data.table`; all zeros: no table
    labels    (B, G)        float32 multi-hot   G genres in the data set's own order

Poster and overview are there by default; `Config.in_batches` says what is.

A pretrained encoder's tokens are those of its own tokenizer, with its own padding. A frozen one has read the
films before: then a poster or an overview is what it made of it, float32 (B, D) or (B, S, D), and all zeros
mean the same as above. A model takes the same by name: {"poster": ..., "overview": ...}.
"""


class Modality(str):
    """A modality by its name, which is its key in batches, configurations and files."""

    plural: str  # in sentences

    def __new__(cls, name: str, plural: str):
        modality = super().__new__(cls, name)
        modality.plural = plural
        return modality

    def __getnewargs__(self) -> tuple[str, str]:
        return str(self), self.plural  # to be pickled and copied

    @property
    def section(self) -> str:
        """The section of a configuration that names its encoder."""
        return f"{self}_encoder"


POSTER = Modality("poster", "posters")
OVERVIEW = Modality("overview", "overviews")
TABLE = Modality("table", "tables")  # numbers and categories
MODALITIES = (POSTER, OVERVIEW, TABLE)
PLURAL: dict[str, str] = {one: one.plural for one in MODALITIES}  # also for names that were read from a file

CHANNELS = 3  # of a pixel
FIELDS = 3  # of a table's cell: a number, a category's value, and 1
PADDING = 0
OUT_OF_VOCABULARY = 1

LONGEST_GENRE = 100  # characters of a name

SPLITS = ("train", "validation", "test")
# What people call them, in lower case.
SIDES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
