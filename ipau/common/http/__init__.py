"""Request handling of pages and API: client identification, concurrency limits, middleware."""
