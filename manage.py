#!/usr/bin/env python
"""Django's command line. `./manage.py up` starts the whole site."""

import os
import sys

from django.core.management import execute_from_command_line
from django.db import OperationalError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ipau.settings")
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        reason = str(error).strip().splitlines()
        sys.exit(
            "The database does not answer. Start the site with ./manage.py up, or set DATABASE_URL."
            + (f"\n({reason[0]})" if reason else "")
        )


if __name__ == "__main__":
    main()
