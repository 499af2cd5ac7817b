"""Grade the answers of a finished run again, without asking the model under test."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.services.actors import actor_of
from apps.errors import Refusal, dotted
from apps.evaluations.reports import shown_money
from apps.evaluations.services.criteria import read_criteria
from apps.evaluations.services.estimates import Estimate, estimate_regrade
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.regrades import differing_verdicts, regrade_run
from evalplatform.dialects.kit.commands import CoreCommand, find_run
from evalplatform.dialects.kit.dialect import shown_run_id

LOOK_SECONDS = 0.5


class Command(CoreCommand):
    help = (
        "Grade the stored answers of a finished run again, as a new run of the same evaluation: by "
        "its present criteria, or by those in a file. No model under test is asked; judges are. "
        "The run that was graded stays as it is, and so do the evaluation's own criteria."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", metavar="RUN", help="its UUID, or its id as the API shows it")
        parser.add_argument(
            "--criteria",
            metavar="FILE",
            help="a JSON array of criteria, each an object with type, name and its settings",
        )
        parser.add_argument("--account", metavar="NAME", help="needed where two have such a run")
        parser.add_argument("--email", help="who asks; without it an owner of the account")
        parser.add_argument(
            "--wait",
            action="store_true",
            help="until it has ended, to tell how many verdicts differ; workers must be running",
        )

        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="only tell what it may ask and cost; nothing is started",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        run = find_run(options["run"], options["account"])
        actor = actor_of(run.account.name, options["email"])
        try:
            criteria = _criteria_in(options["criteria"])
            if options["dry_run"]:
                self._tell(estimate_regrade(actor, run, criteria=criteria))
                return
            again = regrade_run(actor, run, criteria=criteria)
        except Refusal as error:
            problem = error.problems[0]
            raise CommandError(f"{dotted(problem.path)}: {problem.message}") from error
        self.stdout.write(f"{shown_run_id(run)} is graded again as {shown_run_id(again)}.")
        if not options["wait"]:
            return
        while not again.is_final:
            time.sleep(LOOK_SECONDS)
            again.refresh_from_db()
        differing, total = differing_verdicts(run, again)
        self.stdout.write(
            f"{shown_run_id(again)} is {again.state}: {differing:,} of {total:,} verdicts differ."
        )

    def _tell(self, estimate: Estimate) -> None:
        for one in estimate.models:
            prompt, said = one.prompt_tokens, one.completion_tokens
            self.stdout.write(
                f"{one.model}: {one.calls:,} calls, {prompt[0]:,} to {prompt[1]:,} prompt tokens, "
                f"{said[0]:,} to {said[1]:,} completion tokens."
            )
        cost = estimate.cost
        amounts = "unknown" if cost is None else " to ".join(shown_money(amount) for amount in cost)
        self.stdout.write(f"{estimate.items:,} results, {estimate.calls:,} calls, cost {amounts}.")
        if estimate.models:
            self.stdout.write(estimate.basis)


def _criteria_in(file: str | None) -> list[NewCriterion] | None:
    if file is None:
        return None
    try:
        return read_criteria(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(str(error)) from error
