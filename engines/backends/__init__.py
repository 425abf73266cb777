"""What can execute a network."""
