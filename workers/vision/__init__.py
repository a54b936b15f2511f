"""What families that look at pictures share: fitting them in, reading outputs, drawing what was found."""
