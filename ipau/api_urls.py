"""The API's addresses, mounted under /v1/."""

from django.urls import path, re_path

from accounts import api as accounts
from drive import api as drive
from drive import tus
from ipau.common.api import not_found
from ipau.common.openapi import openapi
from market import api as market
from processing.api import jobs, predictions, previews

app_name = "v1"
urlpatterns = [
    path("openapi.json", openapi, name="openapi"),
    path("account", accounts.Account.as_view(), name="account"),
    path("hardware", jobs.HardwareList.as_view(), name="hardware"),
    path("files", drive.FileList.as_view(), name="files"),
    path("files/<uuid:file_id>", drive.FileDetail.as_view(), name="file"),
    path("files/<uuid:file_id>/content", drive.FileContent.as_view(), name="file-content"),
    path("folders", drive.FolderList.as_view(), name="folders"),
    path("folders/<uuid:folder_id>", drive.FolderDetail.as_view(), name="folder"),
    path("uploads", tus.UploadList.as_view(), name="uploads"),
    path("uploads/<uuid:upload_id>", tus.UploadDetail.as_view(), name="upload"),
    path("models", market.ModelList.as_view(), name="models"),
    path("models/<str:owner>/<str:name>", market.ModelDetail.as_view(), name="model"),
    path("models/<str:owner>/<str:name>/versions", market.VersionList.as_view(), name="versions"),
    path(
        "models/<str:owner>/<str:name>/versions/<uuid:version_id>",
        market.VersionDetail.as_view(),
        name="version",
    ),
    path(
        "models/<str:owner>/<str:name>/predictions",
        predictions.ModelPredictionList.as_view(),
        name="model-predictions",
    ),
    path("predictions", predictions.PredictionList.as_view(), name="predictions"),
    path("predictions/<uuid:job_id>", predictions.PredictionDetail.as_view(), name="prediction"),
    path(
        "predictions/<uuid:job_id>/cancel", predictions.PredictionCancel.as_view(), name="prediction-cancel"
    ),
    path("jobs", jobs.JobList.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>", jobs.JobDetail.as_view(), name="job"),
    path("jobs/<uuid:job_id>/items", jobs.JobItemList.as_view(), name="job-items"),
    path("jobs/<uuid:job_id>/cancel", jobs.JobCancel.as_view(), name="job-cancel"),
    path("preview/<str:name>", previews.Preview.as_view(), name="preview"),
    re_path(r"^.*$", not_found),
]
