"""The sizes in which images are shown in place of themselves: the longest side in pixels, never enlarged."""

# A tile of a listing, and each result of a job.
THUMBNAIL_SIDE = 256
# A page of one image, where a browser cannot show the file, and what visitors of a view-only link get.
VIEW_SIDE = 1024
# The preview of an app or a model.
PREVIEW_SIDE = 1024
# What a model's page keeps of the images on which the model was tried, before and after.
SAMPLE_SIDE = 640
