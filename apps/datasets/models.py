"""Datasets of test cases, their frozen versions, and uploaded files."""

from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.accounts.models import Account, OwnedModel, OwnedQuerySet, User

NAME_LENGTH = 3000
CHUNK_BYTES = 1024 * 1024


class DatasetQuerySet(OwnedQuerySet):
    def present(self) -> Self:
        """Leave out what is deleted. What an import creates is so until its last row is in."""
        return self.filter(deleted_at=None)


class Dataset(OwnedModel):
    """A named collection of test cases. What runs use are its frozen versions.

    Its draft is state `latest_num` + 1 of the cases from `first_position` to before
    `next_position`; what lies behind that is being filled in and not seen yet.
    """

    name = models.CharField(max_length=NAME_LENGTH)
    description = models.TextField(blank=True)
    label_field = models.CharField(
        max_length=200,
        blank=True,
        help_text="The field that holds the right answer; built-in models learn it.",
    )
    text_field = models.CharField(
        max_length=200,
        blank=True,
        help_text="The field that built-in models read; empty means every text but the label.",
    )
    latest_num = models.PositiveIntegerField(default=0, editable=False)
    draft_changes = models.PositiveIntegerField(default=0, editable=False)
    case_count = models.PositiveBigIntegerField(default=0, editable=False)
    first_position = models.PositiveBigIntegerField(default=0, editable=False)
    next_position = models.PositiveBigIntegerField(default=0, editable=False)
    import_token = models.UUIDField(null=True, editable=False)
    import_until = models.DateTimeField(null=True, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            models.Index("account", "created_at", "id", name="dataset_by_account"),
            models.Index("account", "name", name="dataset_by_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def draft_num(self) -> int:
        return self.latest_num + 1

    def draft_cases(self, start: int = 0) -> "TestCaseQuerySet":
        """Return the draft's cases in order, from position `start` on: see DatasetVersion.cases."""
        return TestCase.objects.filter(
            dataset=self,
            position__gte=max(start, self.first_position),
            position__lt=self.next_position,
        ).as_of(self.draft_num)

    def newest_version(self) -> "DatasetVersion | None":
        return self.versions.filter(num=self.latest_num).first()


class DatasetVersion(OwnedModel):
    """A state of a dataset that never changes again: number 1, 2, ….

    It is made of the cases at `first_position` or later that were there in state `num`, so
    freezing copies nothing, however large the dataset.
    """

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="versions")
    num = models.PositiveIntegerField()
    first_position = models.PositiveBigIntegerField(default=0)
    case_count = models.PositiveBigIntegerField(default=0)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("dataset", "-num")
        constraints = [
            models.UniqueConstraint(fields=("dataset", "num"), name="one_version_per_number")
        ]

    def __str__(self) -> str:
        return f"{self.dataset.name} v{self.num}"

    def cases(self, start: int = 0) -> "TestCaseQuerySet":
        """Return the cases in order, from position `start` on.

        Never filter for a lower position besides: with two lower bounds SQLite searches its index
        by one of them, the wrong one, and a walk through pages takes quadratic time.
        """
        return TestCase.objects.filter(
            dataset_id=self.dataset_id, position__gte=max(start, self.first_position)
        ).as_of(self.num)


class TestCaseQuerySet(OwnedQuerySet):
    def as_of(self, num: int) -> Self:
        """Return the bodies that are valid in state `num`, in order."""
        return self.filter(Q(until_num=None) | Q(until_num__gt=num), from_num__lte=num).order_by(
            "position"
        )


class TestCase(OwnedModel):
    """A body of a test case, valid from state `from_num` until before `until_num`.

    An edit closes a body and opens another with the same `key` and `position`. The database does
    not check for each of a million cases that account and dataset exist: whoever removes a dataset
    removes its cases.
    """

    account = models.ForeignKey(Account, models.CASCADE, related_name="+", db_constraint=False)
    # The unique constraint has an index of it already.
    dataset = models.ForeignKey(
        Dataset, models.CASCADE, related_name="cases", db_constraint=False, db_index=False
    )
    key = models.UUIDField(editable=False, help_text="The case's id, the same over its edits.")
    position = models.PositiveBigIntegerField()
    from_num = models.PositiveIntegerField(default=1)
    until_num = models.PositiveIntegerField(null=True)
    item = models.TextField(help_text="JSON object, keys in the order they came in.")
    sample = models.TextField(null=True, blank=True, help_text="JSON: a recorded answer.")

    objects = TestCaseQuerySet.as_manager()
    # pytest takes a class of this name for a test.
    __test__ = False

    class Meta:
        ordering = ("dataset", "position", "from_num")
        constraints = [
            models.UniqueConstraint(
                fields=("dataset", "position", "from_num"), name="one_body_per_state"
            ),
            models.CheckConstraint(
                condition=Q(until_num=None) | Q(until_num__gt=F("from_num")),
                name="until_after_from",
            ),
        ]
        indexes = [models.Index("dataset", "key", name="case_by_key")]

    def __str__(self) -> str:
        return f"case {self.position}"


class FileQuerySet(OwnedQuerySet):
    def present(self) -> Self:
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=timezone.now()),
            deleted_at=None,
            ready_at__isnull=False,
        )


class File(OwnedModel):
    """An uploaded file. Its bytes are rows, so that workers on other machines can read them."""

    filename = models.CharField(max_length=NAME_LENGTH)
    purpose = models.CharField(max_length=40)
    byte_count = models.PositiveBigIntegerField(default=0)
    ready_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, editable=False)
    is_inline = models.BooleanField(
        default=False, editable=False, help_text="Rows that came inside a request, not a file."
    )
    imported_id = models.CharField(max_length=100, null=True, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    objects = FileQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [
            models.UniqueConstraint(
                fields=("account", "imported_id"), name="one_file_per_imported_id"
            )
        ]
        indexes = [models.Index("account", "created_at", "id", name="file_by_account")]

    def __str__(self) -> str:
        return self.filename


class FileChunk(models.Model):
    """The bytes of a file from `number` MiB on."""

    id = models.BigAutoField(primary_key=True)
    file = models.ForeignKey(File, models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        ordering = ("file", "number")
        constraints = [
            models.UniqueConstraint(fields=("file", "number"), name="one_chunk_per_number")
        ]

    def __str__(self) -> str:
        return f"{self.file_id} [{self.number}]"
