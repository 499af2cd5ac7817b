"""What can be done with evaluations, runs and endpoints."""
