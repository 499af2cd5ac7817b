"""The queue in the admin: failures to look at, and nothing by which to run code."""

from django.contrib import admin
from django_q.models import OrmQ, Schedule, Success

# A scheduled task names any function; whoever writes one runs code on the workers.
admin.site.unregister([OrmQ, Schedule, Success])
