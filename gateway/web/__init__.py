"""What clients meet: the HTTP wire."""
