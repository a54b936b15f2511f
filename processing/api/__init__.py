"""Predictions, jobs and previews over the API."""
