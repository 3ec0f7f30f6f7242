"""A method that does everything a method must not do. With this folder's parent on PYTHONPATH, it is installed."""
