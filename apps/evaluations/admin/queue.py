"""The queue in the admin: failures to look at, and nothing by which to run code."""

from django.contrib import admin
from django_q.models import OrmQ, Schedule, Success

# A scheduled task names any function; whoever writes one runs code on the workers.
for model in (OrmQ, Schedule, Success):
    if admin.site.is_registered(model):  # OrmQ is, where the queue is in the database
        admin.site.unregister(model)
