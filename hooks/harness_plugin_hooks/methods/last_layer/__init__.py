"""Methods that train the last layer again, on rows chosen for it."""
