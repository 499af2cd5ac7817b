"""The WSGI application that granian, or any other server, serves."""

import os

from django.core.wsgi import get_wsgi_application

from evalplatform.bodies import measured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalplatform.settings")

application = measured(get_wsgi_application())
