"""URLs of the API, mounted under /v1/."""

from django.urls import path, re_path

from accounts import api as accounts
from drive.api import archives, drive, files, folders, shares, uploads
from ipau.common.api.openapi import openapi
from ipau.common.api.problems import not_found
from market.api import conversions, pipelines
from market.api import models as market
from processing.api import jobs, predictions, previews, webhooks

app_name = "v1"
urlpatterns = [
    # Django tries these in order. Previews come first: they are frequent, and users wait for them.
    path("preview/detect", previews.Detect.as_view(), name="detect"),
    path("preview/detect-to-json", previews.DetectToJson.as_view(), name="detect-to-json"),
    path("preview/detect-to-img", previews.DetectToImg.as_view(), name="detect-to-img"),
    path("preview/<str:name>", previews.Preview.as_view(), name="preview"),
    path("preview/<str:owner>/<str:name>", previews.ModelPreview.as_view(), name="model-preview"),
    path("openapi.json", openapi, name="openapi"),
    path("account", accounts.Account.as_view(), name="account"),
    path("hardware", jobs.HardwareList.as_view(), name="hardware"),
    path("drive", drive.Drive.as_view(), name="drive"),
    path("drive/move", drive.DriveMove.as_view(), name="drive-move"),
    path("drive/trash", drive.DriveTrash.as_view(), name="drive-trash"),
    path("drive/restore", drive.DriveRestore.as_view(), name="drive-restore"),
    path("trash/empty", drive.TrashEmpty.as_view(), name="trash-empty"),
    path("archives", archives.ArchiveList.as_view(), name="archives"),
    path("files", files.FileList.as_view(), name="files"),
    path("files/<uuid:file_id>", files.FileDetail.as_view(), name="file"),
    path("files/<uuid:file_id>/content", files.FileContent.as_view(), name="file-content"),
    path("files/<uuid:file_id>/restore", files.FileRestore.as_view(), name="file-restore"),
    path("folders", folders.FolderList.as_view(), name="folders"),
    path("folders/<uuid:folder_id>", folders.FolderDetail.as_view(), name="folder"),
    path("folders/<uuid:folder_id>/archive", archives.FolderArchive.as_view(), name="folder-archive"),
    path("folders/<uuid:folder_id>/restore", folders.FolderRestore.as_view(), name="folder-restore"),
    path("shares", shares.ShareList.as_view(), name="shares"),
    path("shares/<uuid:share_id>", shares.ShareDetail.as_view(), name="share"),
    path("uploads", uploads.UploadList.as_view(), name="uploads"),
    path("uploads/<uuid:upload_id>", uploads.UploadDetail.as_view(), name="upload"),
    path("models", market.ModelList.as_view(), name="models"),
    path("conversions", conversions.ConversionList.as_view(), name="conversions"),
    path("conversions/<uuid:conversion_id>", conversions.ConversionDetail.as_view(), name="conversion"),
    path(
        "conversions/<uuid:conversion_id>/confirm",
        conversions.ConversionConfirmation.as_view(),
        name="conversion-confirm",
    ),
    path("models/<str:owner>/<str:name>", market.ModelDetail.as_view(), name="model"),
    path("models/<str:owner>/<str:name>/readme", market.ModelReadme.as_view(), name="model-readme"),
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
    path("quotes", jobs.QuoteView.as_view(), name="quotes"),
    path("jobs/<uuid:job_id>", jobs.JobDetail.as_view(), name="job"),
    path("jobs/<uuid:job_id>/items", jobs.JobItemList.as_view(), name="job-items"),
    path("jobs/<uuid:job_id>/cancel", jobs.JobCancel.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/retry", jobs.JobRetry.as_view(), name="job-retry"),
    path("jobs/<uuid:job_id>/again", jobs.JobAgain.as_view(), name="job-again"),
    path("webhooks/default/secret", webhooks.WebhookSecretDetail.as_view(), name="webhook-secret"),
    path(
        "webhooks/default/secret/rotate",
        webhooks.WebhookSecretRotate.as_view(),
        name="webhook-secret-rotate",
    ),
    path("webhooks/deliveries", webhooks.DeliveryList.as_view(), name="webhook-deliveries"),
    path(
        "webhooks/deliveries/<uuid:delivery_id>", webhooks.DeliveryDetail.as_view(), name="webhook-delivery"
    ),
    path(
        "webhooks/deliveries/<uuid:delivery_id>/redeliver",
        webhooks.DeliveryAgain.as_view(),
        name="webhook-redeliver",
    ),
    path("pipelines", pipelines.PipelineList.as_view(), name="pipelines"),
    path("pipelines/<str:owner>/<str:name>", pipelines.PipelineDetail.as_view(), name="pipeline"),
    re_path(r"^.*$", not_found),
]
