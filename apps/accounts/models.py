"""People, the teams that own everything, and the keys by which programs speak for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from apps.accounts.roles import ALLOWED, Action, Role
from apps.ids import new_id


class UserManager(BaseUserManager["User"]):
    """Makes users by e-mail address, compared without case."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=(username or "").strip())


class User(AbstractBaseUser, PermissionsMixin):
    """A person, or a service that signs in like one."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField(
        default=True, help_text="Clear this instead of deleting a person: history keeps its names."
    )
    is_staff = models.BooleanField(
        default=False, help_text="May open the admin and work on the accounts they belong to."
    )
    is_service = models.BooleanField(default=False, help_text="A program's identity, not a person.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    USERNAME_FIELD = "email"
    objects = UserManager()

    class Meta:
        ordering = ("email",)
        constraints = [
            models.UniqueConstraint(Lower("email"), name="user_email_without_case"),
        ]

    def __str__(self) -> str:
        return self.email


class AccountQuerySet(models.QuerySet["Account"]):
    def visible_to(self, actor: "Actor") -> Self:
        return self.filter(pk__in=actor.account_ids)


class Account(models.Model):
    """A team: what one account owns no other can see."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=200, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    disabled_at = models.DateTimeField(
        null=True, blank=True, help_text="Set to lock everybody and every key out."
    )
    users = models.ManyToManyField(User, through="Membership", related_name="accounts")

    objects = AccountQuerySet.as_manager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's role in an account."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role, default=Role.EDITOR)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("account", "user")
        constraints = [
            models.UniqueConstraint(fields=("account", "user"), name="one_membership_per_person")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.account} as {self.role}"


@dataclass(frozen=True)
class Actor:
    """The user who asks for something, the account they selected, and their role in each of theirs.

    account None: none is selected, and reading spans every account in `roles`.
    """

    user: User
    account: Account | None
    roles: Mapping[UUID, str]
    request_id: str = ""

    @property
    def account_ids(self) -> tuple[UUID, ...]:
        if self.account is not None:
            return (self.account.pk,) if self.account.pk in self.roles else ()
        return tuple(self.roles)

    def may(self, action: Action, account: Account | None = None) -> bool:
        account = account or self.account
        return account is not None and action in ALLOWED.get(self.roles.get(account.pk, ""), ())

    def require(self, action: Action, account: Account | None = None) -> Account:
        """Return the account to act in. Raises PermissionDenied when the role forbids it."""
        account = account or self.account
        if account is None:
            raise PermissionDenied("Select an account first: you belong to several.")
        if not self.may(action, account):
            role = self.roles.get(account.pk, "no role")
            raise PermissionDenied(
                f"Your role in {account.name} ({role}) does not allow to {action}."
            )
        return account


class OwnedQuerySet(models.QuerySet):
    """Rows of accounts; the only way from a request to a row is `visible_to`."""

    def visible_to(self, actor: Actor) -> Self:
        ids = actor.account_ids
        if len(ids) == 1:
            return self.owned_by(ids[0])
        return self.filter(account_id__in=ids)

    def owned_by(self, account_id: Any) -> Self:
        """Keep the rows of one account; its id may be an expression."""
        return self.filter(account_id=account_id)


class OwnedModel(models.Model):
    """A row that belongs to an account."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True


class ApiKeyQuerySet(OwnedQuerySet):
    def usable(self, now: Any = None) -> Self:
        """Keep the keys that open their account now; `now` may be an expression."""
        now = now or timezone.now()
        return self.filter(
            models.Q(expires_at=None) | models.Q(expires_at__gt=now),
            revoked_at=None,
            user__is_active=True,
            account__disabled_at=None,
        )


class ApiKey(OwnedModel):
    """A secret by which a program speaks for a user in an account. Only its hash is kept."""

    user = models.ForeignKey(User, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=200, blank=True, help_text="What uses this key.")
    prefix = models.CharField(max_length=16, editable=False)
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    role = models.CharField(
        max_length=12,
        choices=Role,
        default=Role.ADMIN,
        help_text="Never more than the user's own role.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at", "-id")

    def __str__(self) -> str:
        return f"{self.prefix}…"


class AuditEvent(models.Model):
    """One change that somebody made. Rows are only ever added."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, null=True, related_name="+")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=60)
    before = models.TextField(blank=True, help_text="JSON")
    after = models.TextField(blank=True, help_text="JSON")
    request_id = models.CharField(max_length=60, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            models.Index("account", "created_at", "id", name="audit_by_account"),
            models.Index("object_type", "object_id", name="audit_by_object"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_type} {self.object_id}"
