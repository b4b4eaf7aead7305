"""Images and their files: decoding, pictures, quality."""
