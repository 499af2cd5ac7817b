"""Call the admin's pages of datasets, and read what they say."""

from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse


def page_of(name: str, *args) -> str:
    return reverse(f"admin:datasets_{name}", args=args)


def act(client, name: str, action: str, *rows):
    given = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return client.post(page_of(f"{name}_changelist"), given)


def said(response) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def body_of(response) -> str:
    return b"".join(response.streaming_content).decode()


def import_file(client, actor, content: bytes, filename: str = "t.jsonl", **given):
    file = SimpleUploadedFile(filename, content)
    data = {"account": actor.account.pk, "name": "tickets", "file": file} | given
    return client.post(page_of("dataset_import"), data)
