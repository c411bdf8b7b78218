"""The local interface over gRPC, and the messages of its protocol."""
