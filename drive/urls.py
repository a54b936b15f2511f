"""The drive's pages, mounted under /drive/."""

from django.urls import path

from drive.views import (
    archives,
    changes,
    content,
    direct,
    finding,
    pages,
    purging,
    shares,
    unfinished,
    uploads,
    viewer,
    visits,
)

app_name = "drive"
urlpatterns = [
    path("", pages.root, name="root"),
    path("folder/<uuid:folder_id>/", pages.folder, name="folder"),
    path("folder/<uuid:folder_id>/rename/", changes.rename_folder, name="rename-folder"),
    path("file/<uuid:file_id>/", viewer.file, name="file"),
    path("file/<uuid:file_id>/rename/", changes.rename_file, name="rename-file"),
    path("file/<uuid:file_id>/content/", content.content, name="content"),
    path("file/<uuid:file_id>/thumbnail/<int:side>/", content.thumbnail, name="thumbnail"),
    path("new-folder/", changes.new_folder, name="new-folder"),
    path("upload/", uploads.upload, name="upload"),
    path("upload/clashes/", uploads.clashes, name="clashes"),
    path("upload/tiles/", uploads.tiles, name="new-tiles"),
    path("upload/<uuid:upload_id>/give-up/", unfinished.give_up, name="give-up"),
    path("upload/direct/", direct.begin, name="direct-uploads"),
    path("upload/direct/<uuid:upload_id>/", direct.state, name="direct-upload"),
    path("upload/direct/<uuid:upload_id>/parts/", direct.parts, name="direct-parts"),
    path("upload/direct/<uuid:upload_id>/finish/", direct.finish, name="finish-direct"),
    path("upload/direct/<uuid:upload_id>/discard/", direct.discard, name="discard-direct"),
    path("states/", pages.states, name="states"),
    path("download/", archives.download, name="download"),
    path("share/", shares.share, name="share"),
    path("shared/", shares.shared, name="shared"),
    path("shared/<uuid:share_id>/", shares.change, name="change-share"),
    path("shared/<uuid:share_id>/revoke/", shares.revoke, name="revoke-share"),
    path("search/", finding.search, name="search"),
    path("starred/", finding.starred, name="starred"),
    path("star/", finding.star, name="star"),
    path("tree/", finding.tree, name="tree"),
    path("keys/", finding.keys, name="keys"),
    path("move/", changes.move, name="move"),
    path("move/undo/<uuid:move_id>/", changes.undo_move, name="undo-move"),
    path("trash/", pages.trash, name="trash"),
    path("trash/add/", changes.trash_selection, name="trash-selection"),
    path("trash/restore/", changes.restore, name="restore"),
    path("trash/delete/", purging.delete_forever, name="delete-forever"),
    path("trash/empty/", purging.empty_trash, name="empty-trash"),
    path("trash/undo/<int:at>/", changes.undo_trash, name="undo-trash"),
]

# What others see, mounted under /s/: the token is all that they need to know.
visit_urls = (
    [
        path("<str:token>/", visits.enter, name="enter"),
        path("<str:token>/folder/<uuid:folder_id>/", visits.folder, name="folder"),
        path("<str:token>/file/<uuid:file_id>/", visits.file, name="file"),
        path("<str:token>/file/<uuid:file_id>/content/", visits.content, name="content"),
        path("<str:token>/file/<uuid:file_id>/thumbnail/<int:side>/", visits.thumbnail, name="thumbnail"),
        path("<str:token>/download/", visits.download, name="download"),
    ],
    "share",
)
