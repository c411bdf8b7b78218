"""The local interface over HTTP: sockets, connections, bodies, browsers, answers."""
