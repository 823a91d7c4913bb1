"""Before anything is trained: a task opened, its plan resolved, the hardware chosen."""
