"""What datatools/doctor_checks.py is made of: reading one image, finding copies, and the table of checks."""
