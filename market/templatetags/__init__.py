"""What templates may ask about listings."""
