"""The routes of the pages."""

from django.urls import path
from django.views.generic import RedirectView

from evalplatform.web import (
    access,
    criteria,
    datasets,
    evaluations,
    imports,
    results,
    runs,
    servers,
)

app_name = "web"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="web:runs"), name="home"),
    path("sign-in/", access.sign_in, name="sign_in"),
    path("sign-out/", access.sign_out, name="sign_out"),
    path("account/", access.select_account, name="select_account"),
    path("runs/", runs.runs, name="runs"),
    path("runs/live/", runs.runs_live, name="runs_live"),
    path("runs/<uuid:run_id>/", runs.run, name="run"),
    path("runs/<uuid:run_id>/live/", runs.run_live, name="run_live"),
    path("runs/<uuid:run_id>/cancel/", runs.cancel, name="cancel_run"),
    path("runs/<uuid:run_id>/retry/", runs.retry, name="retry_run"),
    path("runs/<uuid:run_id>/test-servers/", servers.test_servers, name="test_servers"),
    path("runs/<uuid:run_id>/regrade/", criteria.regrade, name="regrade_run"),
    path("runs/<uuid:run_id>/results/", results.results_live, name="results_live"),
    path("runs/<uuid:run_id>/results/<uuid:result_id>/", results.result, name="result"),
    path("evaluations/", evaluations.evaluations, name="evaluations"),
    path("evaluations/<uuid:evaluation_id>/", evaluations.evaluation, name="evaluation"),
    path("evaluations/<uuid:evaluation_id>/criteria/", criteria.change, name="change_criteria"),
    path("datasets/", datasets.datasets, name="datasets"),
    path("datasets/import/", imports.import_dataset, name="import_dataset"),
    path("datasets/skipped/<uuid:file_id>/", imports.skipped_rows, name="skipped_rows"),
    path("datasets/<uuid:dataset_id>/", datasets.dataset, name="dataset"),
]
