"""Sizes of thumbnails and previews: the longest side in pixels. Images are never enlarged."""

# Tiles of file listings, and results of jobs.
THUMBNAIL_SIDE = 256
# The page of one image, if browsers cannot show the file, and images for visitors of view-only links.
VIEW_SIDE = 1024
# Previews of apps and models.
PREVIEW_SIDE = 1024
# Sample images on the page of a model, before and after.
SAMPLE_SIDE = 640
