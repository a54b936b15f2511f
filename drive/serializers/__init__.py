"""Files, folders and drives as the API tells and takes them."""
