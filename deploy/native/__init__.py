"""The stack as native processes: one file a service, one supervisor over them."""
