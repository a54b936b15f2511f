"""What templates may ask about jobs and settings."""
