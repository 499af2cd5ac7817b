"""The demo of `manage.py demo`: it prepares an account, calls the server, and prints a comparison.

It calls the server as a client of OpenAI's dialect and stops working where that one is removed.
"""
