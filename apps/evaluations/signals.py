"""The only signal: it tells upward what finished, without importing upward."""

from django.dispatch import Signal

# Sent once, after commit, with run_id: the run has reached a final state.
run_finished = Signal()
