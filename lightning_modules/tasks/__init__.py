"""What `task=` names: each task is a function of one run, named by a file of `conf/task/`."""
