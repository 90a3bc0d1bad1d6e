"""GRPCInferenceService: settings that can be changed while the server runs."""

from __future__ import annotations

from server.rpc.methods import not_offered


class SettingsMethods:
    TraceSetting = not_offered("TraceSetting")
    LogSettings = not_offered("LogSettings")
