"""API views of predictions, jobs, previews and webhooks."""
