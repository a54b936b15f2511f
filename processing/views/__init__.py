"""The pages of apps and jobs."""
