"""Turns a stored run into results: plan, claim, answer, grade, store, close."""
