"""Render user-written Markdown as safe HTML."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import nh3
from django.utils.html import escape, format_html
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

# Deeper nesting is shown as text.
MOST_NESTED = 12
# Levels used by the page title and the card title.
_HEADINGS_ABOVE = 2
_TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "ul", "ol", "li"),
    *("a", "em", "strong", "s", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_RELATION = "nofollow ugc noopener noreferrer"


def render_markdown(text: str) -> str:
    """Return CommonMark with tables as HTML.

    HTML in the text is shown as text. Images become links: pages load nothing from other sites, so those
    cannot learn who views the page.
    """
    html: str = _parser().render(text)
    return nh3.clean(html, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, link_rel=_RELATION)


class _Renderer(RendererHTML):
    """Renderer with lowered headings and links instead of images."""

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        token = tokens[idx]
        token.tag = f"h{min(6, int(token.tag[1:]) + _HEADINGS_ABOVE)}"
        return self.renderToken(tokens, idx, options, env)

    heading_close = heading_open

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        token = tokens[idx]
        words = self.renderInlineAsText(token.children or [], options, env) or _("Image")
        if _is_inside_link(tokens[:idx]):
            return escape(words)
        return format_html('<a href="{}">{}</a>', token.attrGet("src") or "", words)


def _is_inside_link(before: Sequence[Token]) -> bool:
    return sum(token.nesting for token in before if token.type in ("link_open", "link_close")) > 0


@cache
def _parser() -> MarkdownIt:
    options = {"html": False, "maxNesting": MOST_NESTED}
    parser = MarkdownIt("commonmark", options, renderer_cls=_Renderer)
    return parser.enable(["table", "strikethrough"])
