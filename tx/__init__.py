"""The sender."""
