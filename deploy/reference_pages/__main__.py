"""Write the generated pages: `.venv/bin/python -m deploy.reference_pages`."""

from __future__ import annotations

import os
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Write each page into `docs/reference/`."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ipau.settings")
    django.setup()
    from deploy.reference_pages import apps, commands, settings  # noqa: PLC0415  # Django must be set up

    for page in (apps, commands, settings):
        path = ROOT / "docs/reference" / f"{page.__name__.rpartition('.')[2]}.md"
        path.write_text(page.render(ROOT))


if __name__ == "__main__":
    main()
