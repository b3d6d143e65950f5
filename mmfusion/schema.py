"""The batch contract: what every data set yields and every model reads.

One element of the source is a triple:

    poster  (B, H, W, 3)  float32 in [0, 1]   all zeros: no poster
    tokens  (B, T)        int32               0 padding, 1 out of vocabulary; all padding: no overview
    labels  (B, G)        float32 multi-hot   G genres in the data set's own order

A pretrained encoder's tokens are those of its own tokenizer, with its own padding. A frozen one has read the
films before: then a poster or an overview is what it made of it, float32 (B, D) or (B, S, D), and all zeros
mean the same as above.
"""

POSTER = "poster"
OVERVIEW = "overview"
MODALITIES = (POSTER, OVERVIEW)

CHANNELS = 3
PADDING = 0
OUT_OF_VOCABULARY = 1

LONGEST_GENRE = 100  # characters of a name

SPLITS = ("train", "validation", "test")


def as_model_inputs(poster, tokens, labels):
    """Turns the triple into what `fit` reads: ({"poster", "overview"}, labels).

    Keras would take a bare triple for (inputs, targets, sample weights).
    """
    return {POSTER: poster, OVERVIEW: tokens}, labels
