"""The subcommands of `coinfer`, one module each; rooms are imported only when a command runs."""
