"""Asks once and briefly if a host answers: those who download from it try for minutes before they say so."""

import threading

import requests

PATIENCE = 10  # seconds for the way to a host and back, the look-up of its name included


def why_unreachable(url: str) -> str:
    """Why nobody answers at this address; "" if somebody does, whatever the answer. Proxies are used as usual."""
    found = [f"no answer in {PATIENCE} seconds"]

    def ask() -> None:
        try:
            requests.head(url, timeout=PATIENCE).close()
            found[0] = ""
        except requests.Timeout:
            pass  # it is no answer, whichever of the two clocks is faster
        except requests.RequestException as error:
            found[0] = reason(error)

    # A timeout of requests holds for one of the host's addresses, and for no look-up of its name.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return found[0]


def reason(error: BaseException) -> str:
    """Finds what the system said at the bottom of an error of requests, which wraps it several times."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
