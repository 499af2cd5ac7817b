"""Load a spicepod in the admin: upload it and its data files, preview what it would do, confirm."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import PurePosixPath
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from django import forms
from django.contrib import admin, messages
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import Account, Actor
from apps.accounts.roles import Action
from apps.accounts.staff import REFUSALS, accounts_allowing, actor_in, may, reason_of
from apps.datasets.models import NAME_LENGTH, File
from apps.datasets.stored_files import open_file, store_file
from apps.errors import Invalid
from apps.evaluations.services.declarations import Declared, declare
from evalplatform.dialects.spice.downloads import fetch
from evalplatform.dialects.spice.spicepod import read_spicepod
from evalplatform.dialects.spice.yaml_nodes import MAX_BYTES

PURPOSE = "spicepod"
READ_BYTES = 1024 * 1024
KEPT = timedelta(hours=1)  # between the upload and its confirmation


class ManyFiles(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    widget = ManyFiles

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        return [super(ManyFilesField, self).clean(one, initial) for one in data or []]


class UploadForm(forms.Form):
    account = forms.ModelChoiceField(Account.objects.none())
    spicepod = forms.FileField(help_text="YAML or JSON.", allow_empty_file=True)
    data_files = ManyFilesField(
        required=False,
        allow_empty_file=True,
        help_text="Every file that a dataset names after file:; folders in its path do not count.",
    )


def load(request: HttpRequest) -> HttpResponse:
    """Show the form, preview an upload (which stores the files only), or load a confirmed one."""
    if not may(request, Action.EDIT):
        raise PermissionDenied
    form = UploadForm(request.POST or None, request.FILES or None)
    form.fields["account"] = forms.ModelChoiceField(accounts_allowing(request, Action.EDIT))
    context: dict[str, Any] = {}
    try:
        if "confirmed" in request.POST:
            return _load_confirmed(request)
        if request.method == "POST" and form.is_valid():
            context = _previewed(request, **form.cleaned_data)
    except (*REFUSALS, PermissionDenied) as error:
        if form.is_bound and "confirmed" not in request.POST:
            form.add_error(None, reason_of(error))
        else:
            messages.error(request, reason_of(error))
            return HttpResponseRedirect(request.path)
    page = {
        **admin.site.each_context(request),
        "title": "Load a spicepod",
        "form": form,
        **context,
    }
    return TemplateResponse(request, "admin/load_spicepod.html", page)


def _previewed(request: HttpRequest, account: Account, spicepod: Any, data_files: list) -> dict:
    actor = actor_in(request, account)
    pod, *data = [_store(actor, upload.name, upload.chunks()) for upload in (spicepod, *data_files)]
    uploads = _Uploads(actor, data)
    declared = _declare(actor, pod, uploads, dry_run=True)
    ticket = {
        "account": str(account.pk),
        "user": str(actor.user.pk),
        "spicepod": str(pod.pk),
        "files": [str(file.pk) for file in data],
        "fetched": {url: str(file.pk) for url, file in uploads.fetched.items()},
    }
    return {"outcome": declared, "account": account, "ticket": signing.dumps(ticket, salt=PURPOSE)}


def _store(actor: Actor, name: str, chunks: Iterable[bytes]) -> File:
    """Store bytes until they are confirmed, or for an hour."""
    return store_file(
        actor,
        filename=name,
        purpose=PURPOSE,
        chunks=chunks,
        expires_at=timezone.now() + KEPT,
        is_inline=True,
    )


def _load_confirmed(request: HttpRequest) -> HttpResponse:
    try:
        ticket = signing.loads(request.POST["confirmed"], salt=PURPOSE, max_age=KEPT)
    except signing.BadSignature:
        raise Invalid("The upload is older than an hour: upload the files again.") from None
    account = accounts_allowing(request, Action.EDIT).filter(pk=ticket["account"]).first()
    if account is None or ticket["user"] != str(request.user.pk):
        raise PermissionDenied("A spicepod is confirmed by the one who uploaded it.")
    actor = actor_in(request, account)
    ids = [ticket["spicepod"], *ticket["files"], *ticket["fetched"].values()]
    held = File.objects.visible_to(actor).present().filter(purpose=PURPOSE).in_bulk(ids)
    if len(held) < len(ids):
        raise Invalid("The upload is there no longer: upload the files again.")
    files = {str(pk): file for pk, file in held.items()}
    data = [files[pk] for pk in ticket["files"]]
    fetched = {url: files[pk] for url, pk in ticket["fetched"].items()}
    uploads = _Uploads(actor, data, fetched)
    declared = _declare(actor, files[ticket["spicepod"]], uploads, dry_run=False)
    count = len(declared.stored)
    done = f"Loaded {count:,} component{'' if count == 1 else 's'} into {account}."
    messages.success(request, done)
    return HttpResponseRedirect(reverse("admin:evaluations_evaluation_changelist"))


def _declare(actor: Actor, pod: File, uploads: "_Uploads", *, dry_run: bool) -> Declared:
    with open_file(pod) as file:
        spicepod = read_spicepod(file.read(MAX_BYTES + 1), uploads)
    declared = declare(actor, spicepod.declarations, dry_run=dry_run)
    declared.warnings[:0] = [*spicepod.warnings, *uploads.unused()]
    return declared


class _Uploads:
    """The uploaded data files, found by the last part of a path. No other file can be named.

    fetched: what was fetched, by its URL; what is confirmed is what was previewed.
    """

    def __init__(
        self, actor: Actor, files: Iterable[File], fetched: Mapping[str, File] | None = None
    ) -> None:
        self._actor = actor
        self.fetched = dict(fetched or {})
        self._files: dict[str, File] = {}
        self._paths: dict[str, str] = {}
        for file in files:
            if file.filename in self._files:
                raise Invalid(f"Two data files are called {file.filename!r}: upload one of them.")
            self._files[file.filename] = file

    def find(self, path: str) -> Callable[[], BinaryIO]:
        name = PurePosixPath(path).name
        file = self._files.get(name)
        if file is None:
            raise Invalid(f"{path!r} is not among the uploaded data files")
        if self._paths.setdefault(name, path) != path:
            raise Invalid(f"{path!r} and {self._paths[name]!r} are one upload: rename a file")
        return lambda: open_file(file)

    def fetch(self, url: str) -> Callable[[], BinaryIO]:
        return lambda: self._fetched(url)

    def _fetched(self, url: str) -> BinaryIO:
        if url not in self.fetched:
            with TemporaryFile() as copy:
                fetch(url, copy)
                copy.seek(0)
                chunks = iter(partial(copy.read, READ_BYTES), b"")
                self.fetched[url] = _store(self._actor, url[:NAME_LENGTH], chunks)
        return open_file(self.fetched[url])

    def unused(self) -> list[str]:
        return [
            f"no dataset reads the data file {name!r}"
            for name in self._files
            if name not in self._paths
        ]
