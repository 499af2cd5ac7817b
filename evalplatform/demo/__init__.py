"""The demo: what `manage.py demo` prepares, what it does as a client, and what it says of it."""
