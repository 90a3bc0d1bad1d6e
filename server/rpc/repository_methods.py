"""GRPCInferenceService: which models there are, loading and unloading."""

from __future__ import annotations

from server.rpc.methods import not_offered


class RepositoryMethods:
    RepositoryIndex = not_offered("RepositoryIndex")
    RepositoryModelLoad = not_offered("RepositoryModelLoad")
    RepositoryModelUnload = not_offered("RepositoryModelUnload")
