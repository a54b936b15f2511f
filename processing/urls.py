"""Pages of apps and jobs. The start page stands beside them, outside their namespace, in `home_urls`."""

from django.urls import path

from processing.views import cluster, home, insight, jobs, pipelines, playground, running, tables, webhooks

app_name = "processing"
urlpatterns = [
    path("apps/pictures/", playground.pictures, name="pictures"),
    path("apps/<str:owner>/<slug:name>/", playground.app_page, name="app"),
    path("apps/<str:owner>/<slug:name>/preview/", playground.preview, name="preview"),
    path("apps/<str:owner>/<slug:name>/upload/", playground.upload, name="upload"),
    path("apps/<str:owner>/<slug:name>/run/", running.run, name="run"),
    path("apps/<str:owner>/<slug:name>/quote/", running.quote, name="quote"),
    path("apps/<str:owner>/<slug:name>/table/", tables.table_page, name="table"),
    path("apps/<str:owner>/<slug:name>/table/open/", tables.open_table, name="table-open"),
    path("apps/<str:owner>/<slug:name>/table.csv", tables.table_file, name="table-file"),
    path("pipelines/", pipelines.list_page, name="pipelines"),
    path("pipelines/new/", pipelines.new_page, name="new-pipeline"),
    path("pipelines/preview/", pipelines.preview, name="pipeline-preview"),
    path("pipelines/find/models/", pipelines.find_models, name="pipeline-models"),
    path("pipelines/copy/<str:owner>/<slug:name>/", pipelines.copy, name="pipeline-copy"),
    path("pipelines/<slug:name>/", pipelines.edit_page, name="pipeline"),
    path("pipelines/<slug:name>/share/", pipelines.share, name="pipeline-share"),
    path("pipelines/<slug:name>/delete/", pipelines.delete, name="pipeline-delete"),
    path("run/", running.run_selection, name="run-selection"),
    path("cluster/", cluster.cluster_page, name="cluster"),
    path("cluster/<str:name>/drain/", cluster.drain, name="worker-drain"),
    path("cluster/<str:name>/resume/", cluster.resume, name="worker-resume"),
    path("metrics", cluster.metrics_page, name="metrics"),
    path("settings/webhooks/", webhooks.webhooks_page, name="webhooks"),
    path("settings/webhooks/secret/", webhooks.show_secret, name="webhook-secret"),
    path("settings/webhooks/secret/new/", webhooks.rotate_secret, name="webhook-rotate"),
    path("settings/webhooks/test/", webhooks.send_ping, name="webhook-ping"),
    path("settings/webhooks/<uuid:delivery_id>/", webhooks.delivery_page, name="delivery"),
    path("settings/webhooks/<uuid:delivery_id>/again/", webhooks.redeliver, name="delivery-again"),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/recent/", home.recent_jobs, name="recent-jobs"),
    path("jobs/<uuid:job_id>/", jobs.job_page, name="job"),
    path("jobs/<uuid:job_id>/items/", insight.job_items, name="job-items"),
    path("jobs/<uuid:job_id>/items.csv", insight.job_csv, name="job-csv"),
    path("jobs/<uuid:job_id>/times/", insight.job_times, name="job-times"),
    path("jobs/<uuid:job_id>/log/", insight.job_log, name="job-log"),
    path("jobs/<uuid:job_id>/progress/", jobs.job_progress, name="job-progress"),
    path("jobs/<uuid:job_id>/results/", jobs.job_results, name="job-results"),
    path("jobs/<uuid:job_id>/items/<int:position>/", jobs.job_item, name="job-item"),
    path("jobs/<uuid:job_id>/cancel/", jobs.cancel_job, name="job-cancel"),
    path("jobs/<uuid:job_id>/retry/", jobs.retry_job, name="job-retry"),
    path("jobs/<uuid:job_id>/again/", jobs.run_again, name="job-again"),
]
home_urls = [path("", home.home, name="home")]
