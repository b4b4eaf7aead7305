"""The data sources that come with Mixcoder."""
