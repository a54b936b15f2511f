"""Django's PostgreSQL backend with a cheaper health check, prepared queries, and retries."""
