"""What the command groups share: acting as a user, and printing records."""
