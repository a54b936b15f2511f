"""Pages of apps, pipelines, jobs, webhooks and the cluster."""
