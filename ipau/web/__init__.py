"""Web server: a gunicorn worker class that does not block threads on slow clients."""
