"""A transport of our own: gRPC over HTTP/2 in the event loop, on h2.

From the socket inwards: `server` listens; `connection` is one client's connection, which reads and
writes frames through `protocol`; `calls` are the kinds of calls, whose messages `messages` takes
out of the frames (`compression`: those that are compressed) and whose headers `headers` reads and
writes; `refusals` are the ends of calls that break the rules; `methods` says what there is to call.
"""
