"""User-written Markdown: what is shown, and that nothing in it runs, loads or escapes its card."""

import re
import time

import pytest

from market.listings.markdown import MOST_NESTED, render_markdown
from market.weights.services import DESCRIPTION_LENGTH

# Hostile input. Nothing of it may run, load or look like a part of the site.
ALLOWED = re.compile(
    r"</?(?:p|h[3-6]|blockquote|pre|code|ul|ol|li|em|strong|s|table|thead|tbody|tr|th|td)>|</a>|<br>|<hr>"
    r'|<ol start="\d+">'
    r'|<a(?: href="(?:(?:https?|mailto):[^"<>]*|[^":<>]*)")?(?: title="[^"<>]*")?'
    r' rel="nofollow ugc noopener noreferrer">'
)

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<style>body{display:none}</style>",
    "<iframe src=https://evil.example></iframe>",
    '<form action="https://evil.example"><input name=password></form>',
    "<!-- --><svg/onload=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java\tscript:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](\x01javascript:alert(1))",
    "[a](vbscript:x)",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "<javascript:alert(1)>",
    '[a](https://example.org "x\\" onclick=alert(1) \\"")',
    '[a](https://example.org/"onmouseover=alert(1))',
    "![a](https://evil.example/track.png)",
    "![a](data:image/svg+xml;base64,PHN2Zz4=)",
    '![a](x "\\" onerror=alert(1) \\"")',
    "[![a](https://evil.example/a.png)](https://evil.example)",
    "![<script>alert(1)</script>](x)",
    "[a]: javascript:alert(1)\n\n[a]",
    "```<script>\n<script>alert(1)</script>\n```",
    "`<script>`",
    "| <script> |\n|:-:|\n| <b style=x> |",
    "# <script>alert(1)</script>",
    "a\0b<script\0>alert(1)</script>",
    "&lt;script&gt;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_input_is_sanitized(text: str) -> None:
    made = render_markdown(text)
    rest = ALLOWED.sub("", made)
    assert "<" not in rest, made
    assert not re.search(r"<[^>]*(?:javascript|vbscript|data):", made, re.IGNORECASE), made
    assert "<img" not in made


def test_common_markdown_is_rendered() -> None:
    text = (
        "# Use\n\nFor **cats** and `dogs`, *not* ~~birds~~.\n\n- one\n- two\n\n3. three\n\n> said\n\n"
        "| set | mAP |\n|---|--:|\n| own | 0.98 |\n\n[paper](https://example.org/a?b=1&c=2)\n\n"
        "```\nx < y\n```\n\n---\n"
    )
    made = render_markdown(text)
    for part in (
        "<h3>Use</h3>",
        "<strong>cats</strong>",
        "<code>dogs</code>",
        "<em>not</em>",
        "<s>birds</s>",
        "<li>one</li>",
        '<ol start="3">',
        "<blockquote>",
        "<th>mAP</th>",
        "<td>0.98</td>",
        '<a href="https://example.org/a?b=1&amp;c=2" rel="nofollow ugc noopener noreferrer">paper</a>',
        "x &lt; y",
        "<hr>",
    ):
        assert part in made, part


def test_headings_stay_below_those_of_the_page() -> None:
    made = render_markdown("# a\n\n### b\n\n###### c\n\nd\n===")
    assert re.findall(r"<(h\d)>", made) == ["h3", "h5", "h6", "h3"]
    assert re.findall(r"</(h\d)>", made) == ["h3", "h5", "h6", "h3"]


def test_an_image_becomes_a_link() -> None:
    made = render_markdown("![A *curve*](https://example.org/roc.png) ![](https://example.org/b.png)")
    links = re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', made)
    assert links == [("https://example.org/roc.png", "A curve"), ("https://example.org/b.png", "Image")]


def test_an_image_in_a_link_becomes_its_text() -> None:
    made = render_markdown("[![Build](https://example.org/b.png) ok](https://example.org/c)")
    assert re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', made) == [("https://example.org/c", "Build ok")]


@pytest.mark.parametrize(
    "one", ["> ", "- ", "1. ", "*", "[", "![", "`", "_a ", "<", "[a](", "|", "~~", "&", "\\", "[a]:"]
)
def test_huge_nesting_is_bounded(one: str) -> None:
    began = time.process_time()
    made = render_markdown((one * DESCRIPTION_LENGTH)[:DESCRIPTION_LENGTH])
    # Measured: hundredths of a second. Quadratic or worse parsing takes minutes.
    assert time.process_time() - began < 5
    assert made.count("<blockquote>") <= MOST_NESTED
    assert made.count("<ul>") + made.count("<ol>") <= MOST_NESTED
    assert "<" not in ALLOWED.sub("", made)
