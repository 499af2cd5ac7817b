"""Signals by which evaluations tell who stands above them what has become of a run."""

from django.dispatch import Signal

# Sent after a run's plan is shown to workers, with shard_count: so many of them can work on it.
run_planned = Signal()
# Sent once, in the transaction that ends a run, with run_id, state and now.
run_ending = Signal()
# Sent once, after commit, with run_id: the run has reached a final state.
run_finished = Signal()
# Sent by every sweep, a few times a minute on the machine that sweeps for all.
swept = Signal()
# Sent by a sweep about once an hour: remove some of what is told of long ago, and return True
# where there may be more of it.
history_purge = Signal()
