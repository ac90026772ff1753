"""The neighbours on our links: asking them, answering them."""
