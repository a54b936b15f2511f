"""Pages of apps, models and conversions."""
