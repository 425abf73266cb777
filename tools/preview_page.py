"""Variants of one frame as a page of HTML: two of them under a divider, with zoom; nothing is loaded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.assembly.png_file import encode_png
from tools.preview_variant import Variant

PNG_LEVEL = 3
"""Of zlib: 0.24 s for a film frame of 2560x1440 instead of 0.81 s at its default, 6, for a file that is 8 % larger."""


def build_page(variants: Sequence[Variant], *, title: str, remarks: Sequence[str]) -> str:
    """The page.

    Args:
        variants: At least two of one shape, whatever their sizes; the first is on the left at first, the second right.
        title: Which frame it is.
        remarks: What else there is to say, a sentence each.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (folder / "preview_page.js").read_text(encoding="utf-8")
    largest = max(variants, key=lambda variant: variant.width)
    return environment.get_template("preview_page.html").render(
        title=title,
        remarks=remarks,
        variants=[
            {
                "name": variant.name,
                "remark": variant.remark,
                "height": variant.height,
                "width": variant.width,
                "png": base64.b64encode(encode_png(variant.pixels, level=PNG_LEVEL)).decode("ascii"),
            }
            for variant in variants
        ],
        height=largest.height,
        width=largest.width,
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
