"""A user's own table → a task: what `csv_groups` and `imagefolder_groups` share."""
