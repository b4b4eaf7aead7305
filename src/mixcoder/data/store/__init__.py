"""Images packed into one file, and the folders that they come from."""
