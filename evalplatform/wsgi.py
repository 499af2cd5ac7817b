"""The WSGI application that granian, or any other server, serves."""

import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from evalplatform.bodies import measured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalplatform.settings")
# What is imported is no garbage; to look for some takes a tenth of the time to start.
gc.disable()

application = measured(get_wsgi_application())

# The views, which the first request would wait for. All that is here by now stays: a collection
# that looks through it again and again takes a tenth of every answer.
import_module(settings.ROOT_URLCONF)
gc.collect()
gc.freeze()
gc.enable()
