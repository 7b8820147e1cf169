"""Commands around data: fetch, prepare, check (the doctor), and the drawn demo set."""
