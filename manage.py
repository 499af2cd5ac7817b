#!/usr/bin/env python
"""The command line of the project: `manage.py up`, `manage.py create_api_key`, …"""

import gc
import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # What is imported is no garbage; to look for some takes a tenth of the time to start.
    gc.set_threshold(10_000, 20, 50)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalplatform.settings")
    execute_from_command_line(sys.argv)
