"""What untrusted HTML may keep: text, tables, lists, emphasis, pictures that lie in the page. Nothing that acts."""

from __future__ import annotations

import re

import bleach

__all__ = ["clean", "plain"]

_TAGS = frozenset((
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "div", "dl", "dt", "em",
    "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "q",
    "s", "samp", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt",
    "u", "ul", "var",
))  # fmt: skip
_ATTRIBUTES = {
    "a": ["href", "title"],
    "abbr": ["title"],
    "img": ["alt", "width", "height"],
    "ol": ["start"],
    "td": ["colspan", "rowspan"],
    "th": ["colspan", "rowspan", "scope"],
}
#: These go with everything inside them; of other unknown elements the words stay.
_SILENT = re.compile(r"<(script|style|iframe|object|template|noscript|svg|math|title)\b.*?(</\1\s*>|$)", re.S | re.I)
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+")
_IMAGE = re.compile(r'<img(?: [a-z]+="[^"]*")*>')
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f]")


def _allowed(tag: str, name: str, value: str) -> bool:
    if tag == "img" and name == "src":  # a picture in the page; anything else would ask the network
        return _PICTURE.fullmatch(value) is not None
    return name in _ATTRIBUTES.get(tag, ())


def clean(html: str) -> str:
    """`html` without scripts, styles, frames, forms, event handlers and addresses other than web and mail links."""
    kept = bleach.clean(
        _SILENT.sub("", html), tags=_TAGS, attributes=_allowed, protocols={"http", "https", "mailto", "data"},
        strip=True, strip_comments=True,
    )  # fmt: skip
    return _IMAGE.sub(_image, kept)


def _image(found: re.Match[str]) -> str:
    """A picture with words for those who cannot see it, be they none; nothing if its picture had to go."""
    tag = found.group()
    if ' src="data:' not in tag:
        return ""
    return tag if ' alt="' in tag else tag.replace("<img", '<img alt=""', 1)


def plain(text: str) -> str:
    """`text` without terminal colours and control characters."""
    return _ESCAPES.sub("", text)
