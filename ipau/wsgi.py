"""The WSGI entry point that gunicorn loads."""

import os

from django.core.wsgi import get_wsgi_application

from ipau.keepalive import close_on_unread_body

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ipau.settings")
application = close_on_unread_body(get_wsgi_application())
