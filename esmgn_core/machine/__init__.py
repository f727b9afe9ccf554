"""Services of the machine: files, downloads, devices and child processes."""
