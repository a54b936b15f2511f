"""URLs of the drive's pages, mounted under /drive/."""

from django.urls import path

from drive.views import (
    archives,
    browse,
    content,
    direct_uploads,
    edit,
    search,
    shared_link,
    shares,
    trash,
    uploads,
    viewer,
)

app_name = "drive"
urlpatterns = [
    path("", browse.root, name="root"),
    path("folder/<uuid:folder_id>/", browse.folder, name="folder"),
    path("folder/<uuid:folder_id>/rename/", edit.rename_folder, name="rename-folder"),
    path("file/<uuid:file_id>/", viewer.file, name="file"),
    path("file/<uuid:file_id>/rename/", edit.rename_file, name="rename-file"),
    path("file/<uuid:file_id>/content/", content.content, name="content"),
    path("file/<uuid:file_id>/thumbnail/<int:side>/", content.thumbnail, name="thumbnail"),
    path("new-folder/", edit.new_folder, name="new-folder"),
    path("upload/", uploads.upload, name="upload"),
    path("upload/clashes/", uploads.clashes, name="clashes"),
    path("upload/tiles/", uploads.tiles, name="new-tiles"),
    path("upload/<uuid:upload_id>/give-up/", uploads.give_up, name="give-up"),
    path("upload/direct/", direct_uploads.begin, name="direct-uploads"),
    path("upload/direct/<uuid:upload_id>/", direct_uploads.state, name="direct-upload"),
    path("upload/direct/<uuid:upload_id>/parts/", direct_uploads.parts, name="direct-parts"),
    path("upload/direct/<uuid:upload_id>/finish/", direct_uploads.finish, name="finish-direct"),
    path("upload/direct/<uuid:upload_id>/discard/", direct_uploads.discard, name="discard-direct"),
    path("states/", browse.states, name="states"),
    path("download/", archives.download, name="download"),
    path("share/", shares.share, name="share"),
    path("shared/", shares.shared, name="shared"),
    path("shared/<uuid:share_id>/", shares.change, name="change-share"),
    path("shared/<uuid:share_id>/revoke/", shares.revoke, name="revoke-share"),
    path("search/", search.search, name="search"),
    path("starred/", search.starred, name="starred"),
    path("star/", search.star, name="star"),
    path("tree/", search.tree, name="tree"),
    path("keys/", search.keys, name="keys"),
    path("move/", edit.move, name="move"),
    path("move/undo/<uuid:move_id>/", edit.undo_move, name="undo-move"),
    path("trash/", trash.trash_page, name="trash"),
    path("trash/add/", trash.trash_selection, name="trash-selection"),
    path("trash/restore/", trash.restore, name="restore"),
    path("trash/delete/", trash.delete_forever, name="delete-forever"),
    path("trash/empty/", trash.empty_trash, name="empty-trash"),
    path("trash/undo/<int:at>/", trash.undo_trash, name="undo-trash"),
]

# Pages for visitors of share links, mounted under /s/. The token is the only secret.
visit_urls = (
    [
        path("<str:token>/", shared_link.enter, name="enter"),
        path("<str:token>/folder/<uuid:folder_id>/", shared_link.folder, name="folder"),
        path("<str:token>/file/<uuid:file_id>/", shared_link.file, name="file"),
        path("<str:token>/file/<uuid:file_id>/content/", shared_link.content, name="content"),
        path(
            "<str:token>/file/<uuid:file_id>/thumbnail/<int:side>/", shared_link.thumbnail, name="thumbnail"
        ),
        path("<str:token>/download/", shared_link.download, name="download"),
    ],
    "share",
)
