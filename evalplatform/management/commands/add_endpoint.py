"""Register a model server for an account, or change what is given of one."""

import os
from argparse import ArgumentParser, BooleanOptionalAction
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.services.actors import actor_of
from apps.inference.looking import register_endpoint
from apps.inference.server_settings import ServerSettings, read_header_lines
from evalplatform.dialects.kit.commands import CoreCommand


class Command(CoreCommand):
    help = (
        "Register an OpenAI-compatible model server and the models it serves. For a URL that is "
        "registered already, models are added and what is given here is changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("models", nargs="*", metavar="MODEL", help="a chat model it serves")
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument(
            "--base-url", required=True, metavar="URL", help="up to and including /v1"
        )
        parser.add_argument(
            "--api-key-env",
            metavar="VAR",
            help="the environment variable that holds the server's key; it is read now and kept "
            "encrypted",
        )
        parser.add_argument(
            "--concurrency",
            type=int,
            metavar="N",
            help="calls in flight at most, over all workers and runs (default: 64)",
        )
        parser.add_argument(
            "--requests-per-minute",
            type=int,
            metavar="N",
            help="calls begun in any minute at most; 0 for no limit but the server's own",
        )
        parser.add_argument(
            "--tokens-per-minute",
            type=int,
            metavar="N",
            help="tokens used in any minute at most; 0 for no limit but the server's own",
        )
        parser.add_argument(
            "--allow-private",
            action="store_true",
            default=None,
            help="let the URL lead to a private or loopback address",
        )
        parser.add_argument(
            "--embedding-model", action="append", default=[], metavar="M", dest="embedding_models"
        )
        parser.add_argument(
            "--alias",
            action="append",
            default=[],
            metavar="NAME=MODEL",
            help="a name that callers use for a model of this server; repeatable",
        )
        parser.add_argument(
            "--unchecked",
            action="store_true",
            help="store it without looking whether the server answers",
        )
        self.add_settings(parser)

    def add_settings(self, parser: ArgumentParser) -> None:
        """Add what some servers want beyond URL and key; docs/model-servers.md names them."""
        parser.add_argument(
            "--key-header",
            metavar="NAME",
            help="send the bare key in this header, api-key for Azure (default: Authorization, "
            "as a bearer's)",
        )
        parser.add_argument(
            "--header",
            action="append",
            metavar="NAME:VALUE",
            dest="headers",
            help="a header of every request; repeatable, and in place of those there were",
        )
        parser.add_argument(
            "--secret-header-env",
            action="append",
            metavar="NAME=VAR",
            dest="secret_headers",
            help="a header whose value the environment variable VAR holds, kept encrypted; NAME= "
            "takes it away; repeatable",
        )
        parser.add_argument(
            "--query",
            metavar="NAME=VALUE&…",
            help="added to the URL of every request, as api-version=2024-10-21",
        )
        parser.add_argument(
            "--proxy-env",
            metavar="VAR",
            help="the environment variable that holds the proxy's URL, http://[user:password@]"
            "host:port; kept encrypted; --proxy-env= takes it away",
        )
        parser.add_argument(
            "--call-seconds",
            type=float,
            metavar="S",
            help="cut calls that take longer; 0 for as long as usual (120 s in runs, or what "
            "ENGINE_CALL_SECONDS says)",
        )
        parser.add_argument(
            "--strip-think",
            action=BooleanOptionalAction,
            help="take think blocks out of answers' texts, or leave them in",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        aliases = dict(self._alias(text) for text in options["alias"])
        registered = register_endpoint(
            actor_of(options["account"]),
            base_url=options["base_url"],
            models=options["models"],
            api_key=self._key(options["api_key_env"]),
            concurrency=options["concurrency"],
            requests_per_minute=options["requests_per_minute"],
            tokens_per_minute=options["tokens_per_minute"],
            allow_private=options["allow_private"],
            embedding_models=options["embedding_models"],
            aliases=aliases,
            settings=self._settings(options),
            looks=not options["unchecked"],
        )
        endpoint = registered.endpoint
        names = ", ".join(endpoint.models.order_by("name").values_list("name", flat=True))
        self.stdout.write(
            f"Registered {endpoint.base_url} serving {names or 'no model yet'} "
            f"({endpoint.concurrency} calls at once)."
        )
        for note in registered.notes:
            self.stdout.write(note)

    def _settings(self, options: dict[str, Any]) -> ServerSettings:
        headers, secrets, proxy = (
            options["headers"],
            options["secret_headers"],
            options["proxy_env"],
        )
        return ServerSettings(
            key_header=options["key_header"],
            headers=None if headers is None else read_header_lines("\n".join(headers), "--header"),
            secret_headers=None if secrets is None else dict(map(self._secret, secrets)),
            query=options["query"],
            proxy=self._key(proxy) if proxy else proxy,
            call_seconds=options["call_seconds"],
            strips_think=options["strip_think"],
        )

    def _secret(self, text: str) -> tuple[str, str]:
        name, equals, variable = text.partition("=")
        if not (name and equals):
            raise CommandError(f"--secret-header-env takes NAME=VARIABLE, not {text!r}.")
        return name, (self._key(variable) or "") if variable else ""

    def _alias(self, text: str) -> tuple[str, str]:
        name, equals, model = text.partition("=")
        if not (name and equals and model):
            raise CommandError(f"--alias takes NAME=MODEL, not {text!r}.")
        return name, model

    def _key(self, variable: str | None) -> str | None:
        if variable is None:
            return None
        key = os.environ.get(variable, "").strip()
        if not key:
            raise CommandError(f"The environment variable {variable} is not set, or empty.")
        return key
