"""What tools/check_dataset.py is made of: reading one image, finding copies, and the table of checks."""
