"""What ``report.html`` holds: the data of every check, packed small, and the assets that show it."""
