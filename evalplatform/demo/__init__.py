"""A first evaluation, end to end: real tickets, two built-in models, the OpenAI wire."""
