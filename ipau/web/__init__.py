"""Web server: a gunicorn worker class whose threads do not block on slow clients."""
