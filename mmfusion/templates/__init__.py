"""Texts with places to fill in, in which a sentence can be read and mended."""

import functools

import jinja2


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(package: str, name: str, **values) -> str:
    """Fills in a template.

    Args:
        package: that has it in its folder `templates`.
        name: the file's.
        values: all that it names.
    """
    return _environment(package).get_template(name).render(**values)
