# An op of Keras is its backend's, and pyright takes them all for those of OpenVINO, which may return None.
from typing import Any

def __getattr__(name: str) -> Any: ...
