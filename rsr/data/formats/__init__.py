"""Formats of records: each becomes messages and tools. What is known of a chat and not read is refused, or counted."""
