"""A serverless overlay node."""
