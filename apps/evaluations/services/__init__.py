"""Services for evaluations, their criteria and their runs."""
