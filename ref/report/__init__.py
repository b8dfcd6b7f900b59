"""Reports: what the judge found as a table, a page, JUnit XML."""
