"""The admin of people, accounts, keys and the record of changes."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.forms import UserChangeForm as DjangoUserChangeForm
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpRequest

from apps.accounts.models import Account, ApiKey, AuditEvent, Membership, User
from apps.accounts.owned_admin import AccountFilter, CappedPaginator, OwnedAdmin, become
from apps.accounts.roles import Action
from apps.accounts.services.accounts import open_account, rename_account, set_disabled
from apps.accounts.services.audit import record
from apps.accounts.services.keys import issue_key, revoke_keys, rotate_key
from apps.accounts.services.members import remove_member, set_role, user_by_email
from apps.accounts.staff import actor_in, may


class UserAddForm(AdminUserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name")
        field_classes: dict = {}

    def clean_email(self) -> str:
        return self.cleaned_data["email"].lower()


class UserChangeForm(DjangoUserChangeForm):
    class Meta:
        model = User
        fields = "__all__"
        field_classes: dict = {}

    def clean_email(self) -> str:
        return self.cleaned_data["email"].lower()


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    """Superusers make and change users; staff see the people of their accounts."""

    form = UserChangeForm
    add_form = UserAddForm
    show_full_result_count = False
    paginator = CappedPaginator
    ordering = ("email",)
    list_display = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "is_service")
    search_fields = ("email", "name")
    filter_horizontal = ()
    readonly_fields = ("last_login", "created_at")
    add_fieldsets = (
        (None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),
    )
    person: Any = (None, {"fields": ("email", "name", "last_login", "created_at")})
    fieldsets = (
        person,
        (None, {"fields": ("password", "is_active", "is_staff", "is_superuser", "is_service")}),
    )

    def get_fieldsets(self, request, obj=None):
        if request.user.is_superuser:
            return super().get_fieldsets(request, obj)
        return (self.person,)

    def get_queryset(self, request):
        queryset = super().get_queryset(request)
        if request.user.is_superuser:
            return queryset
        members = Membership.objects.filter(account__in=actor_in(request).roles)
        return queryset.filter(pk__in=members.values("user"))

    def has_module_permission(self, request):
        return may(request, Action.READ)

    def has_view_permission(self, request, obj=None):
        return may(request, Action.READ)

    def has_add_permission(self, request):
        return request.user.is_superuser

    def has_change_permission(self, request, obj=None):
        return request.user.is_superuser

    def has_delete_permission(self, request, obj=None):
        return False

    def save_model(self, request, obj, form, change):
        super().save_model(request, obj, form, change)
        fields = [name for name in form.changed_data if "password" not in name]
        after = {name: getattr(obj, name) for name in fields if hasattr(obj, name)}
        record(actor_in(request), "user.change" if change else "user.add", obj, after=after)


class MemberForm(forms.ModelForm):
    """A member is named by e-mail address, so that no list gives the others' away."""

    email = forms.EmailField()

    class Meta:
        model = Membership
        fields = ("role",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding is False:
            self.fields["email"].disabled = True
            self.initial["email"] = self.instance.user.email

    def person(self) -> User:
        return user_by_email(self.cleaned_data["email"])


class MemberInline(admin.TabularInline):
    model = Membership
    form = MemberForm
    fields = ("email", "role")
    extra = 1

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("user")

    def has_view_permission(self, request, obj=None):
        return may(request, Action.READ, obj)

    def has_change_permission(self, request, obj=None):
        return may(request, Action.MANAGE, obj)

    has_add_permission = has_delete_permission = has_change_permission


@admin.register(Account)
class AccountAdmin(OwnedAdmin):
    """Accounts with their members. They are disabled, never deleted: history keeps its rows."""

    adds = changes = True
    change_action = Action.MANAGE
    list_display = ("name", "member_count", "created_at", "disabled_at")
    list_filter = (("disabled_at", admin.EmptyFieldListFilter),)
    search_fields = ("name",)
    fields = ("name", "id", "created_at", "disabled_at")
    readonly_fields = ("id", "created_at", "disabled_at")
    inlines = (MemberInline,)
    actions = ("disable", "enable")

    def account_of(self, obj):
        return obj

    def in_accounts(self, queryset, accounts):
        return queryset.filter(pk__in=accounts)

    def get_queryset(self, request):
        members = Count("memberships", distinct=True)
        return super().get_queryset(request).annotate(member_count=members)

    def get_inlines(self, request, obj):
        return self.inlines if obj else ()

    @admin.display(description="members", ordering="member_count")
    def member_count(self, account: Account) -> int:
        return account.member_count  # type: ignore[attr-defined]  # annotated above

    def has_add_permission(self, request):
        return may(request, Action.OPEN_ACCOUNT)

    def has_disable_permission(self, request):
        return request.user.is_superuser

    def save_model(self, request, obj, form, change):
        if change:
            rename_account(actor_in(request, obj), obj, name=form.cleaned_data["name"])
        else:
            become(obj, open_account(request.user, name=form.cleaned_data["name"]))

    def save_formset(self, request, form, formset, change):
        actor = actor_in(request, form.instance)
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        for row in formset.forms:
            if row in formset.deleted_forms:
                if row.instance.pk and not row.instance._state.adding:
                    remove_member(actor, user=row.instance.user)
                    formset.deleted_objects.append(row.instance)
            elif row.has_changed():
                held = set_role(actor, user=row.person(), role=row.cleaned_data["role"])
                if row.instance._state.adding:
                    formset.new_objects.append(held)
                else:
                    formset.changed_objects.append((held, row.changed_data))

    @admin.action(description="Disable: lock everybody and every key out", permissions=["disable"])
    def disable(self, request, queryset):
        for account in queryset:
            set_disabled(actor_in(request, account), account, is_disabled=True)

    @admin.action(description="Enable", permissions=["disable"])
    def enable(self, request, queryset):
        for account in queryset:
            set_disabled(actor_in(request, account), account, is_disabled=False)


@admin.register(Membership)
class MembershipAdmin(OwnedAdmin):
    adds = changes = deletes = True
    change_action = Action.MANAGE
    form = MemberForm
    list_display = ("user", "account", "role", "created_at")
    list_select_related = ("user", "account")
    list_filter = (AccountFilter, "role")
    search_fields = ("user__email", "user__name", "account__name")

    def get_fields(self, request, obj=None):
        return ("account", "email", "role")

    def get_readonly_fields(self, request, obj=None):
        return ("account",) if obj else ()

    def save_model(self, request, obj, form, change):
        actor = actor_in(request, obj.account)
        become(obj, set_role(actor, user=form.person(), role=form.cleaned_data["role"]))

    def remove(self, request, obj):
        remove_member(actor_in(request, obj.account), user=obj.user)


class KeyForm(forms.ModelForm):
    email = forms.EmailField(help_text="Whom the key speaks for: a member of the account.")

    class Meta:
        model = ApiKey
        fields = ("account", "role", "name", "expires_at")


@admin.register(ApiKey)
class ApiKeyAdmin(OwnedAdmin):
    """Keys are issued, rotated and revoked; a secret is shown once, its hash never."""

    adds = True
    view_action = change_action = Action.MANAGE
    form = KeyForm
    list_display = (
        "prefix",
        "name",
        "user",
        "account",
        "role",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    list_select_related = ("user", "account")
    list_filter = (AccountFilter, "role", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("prefix", "name", "user__email")
    actions = ("revoke", "rotate")

    def get_fields(self, request, obj=None):
        if obj is None:
            return ("account", "email", "role", "name", "expires_at")
        return (*self.list_display, "created_at")

    def get_changeform_initial_data(self, request):
        return {"email": request.user.email, **super().get_changeform_initial_data(request)}

    def has_issue_permission(self, request):
        return may(request, Action.MANAGE)

    def save_model(self, request, obj, form, change):
        given = form.cleaned_data
        user = User.objects.filter(email__iexact=given["email"]).first()
        if user is None:
            raise ValidationError(f"{given['email']} is not a member of {given['account']}.")
        key, secret = issue_key(
            given["account"],
            user,
            role=given["role"],
            name=given["name"],
            expires_at=given["expires_at"],
            by=actor_in(request, given["account"]),
        )
        become(obj, key)
        self._show(request, key, secret)

    def _show(self, request: HttpRequest, key: ApiKey, secret: str) -> None:
        self.message_user(
            request,
            f"The key of {key.user} in {key.account}, shown this once: {secret}",
            messages.SUCCESS,
        )

    @admin.action(description="Revoke: the keys stop working at once", permissions=["issue"])
    def revoke(self, request, queryset):
        count = sum(revoke_keys(actor_in(request, key.account), [key]) for key in queryset)
        self.message_user(request, f"{count} revoked.", messages.SUCCESS)

    @admin.action(description="Rotate: revoke and issue a like key", permissions=["issue"])
    def rotate(self, request, queryset):
        for key in queryset:
            self._show(request, *rotate_key(actor_in(request, key.account), key))


@admin.register(AuditEvent)
class AuditEventAdmin(OwnedAdmin):
    view_action = Action.MANAGE
    list_display = ("created_at", "action", "object_type", "object_id", "user", "account")
    list_select_related = ("user", "account")
    list_filter = (AccountFilter, ("created_at", admin.DateFieldListFilter))
    search_fields = ("=action", "=object_id", "=user__email", "=request_id")
    search_help_text = "an action, an object's id, an e-mail address or a request's id, exactly"
    # Ids grow with time, and their index serves every filter.
    ordering = ("-id",)


admin.site.unregister(Group)
