"""Text made safe for terminal, CSV and HTML; values as text."""
