"""How joint fusion puts two feature vectors together: one layer an operator.

An operator is called on [poster features (B, D1), overview features (B, D2)] and gives (B, D).
"""

import keras

# Every operator: its name in a config file (`joint.operator`) -> a function that makes the layer.
OPERATORS = {
    "concat": keras.layers.Concatenate,  # (B, D1 + D2)
}
