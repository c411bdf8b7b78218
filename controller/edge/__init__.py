"""The edge server: takes connections, queues requests by deadline, computes and answers."""
