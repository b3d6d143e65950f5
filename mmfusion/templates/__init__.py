"""Texts with places to fill in, in which a sentence can be read and mended."""

import functools

import jinja2


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mmfusion", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # plain text and Markdown
    )


def render(name: str, **values) -> str:
    """Fills in a template of this folder.

    Args:
        name: the file's.
        values: all that it names.
    """
    return _environment().get_template(name).render(**values)
