"""The command line: options of every job (`options.py`), what jobs share (`job.py`), a head for one (`launch.py`)."""
