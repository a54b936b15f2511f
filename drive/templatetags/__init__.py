"""What templates may ask about files."""
