"""Importing this loads what `python -m celery -A ipau worker` loads; see `tests.forked_celery`."""

import gc

import celery.bin.celery
import celery.bin.worker  # noqa: F401

from ipau.celery import app

app.loader.import_default_modules()
# Collections pass over what all of them share.
gc.collect()
gc.freeze()
