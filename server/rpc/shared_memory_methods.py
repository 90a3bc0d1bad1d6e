"""GRPCInferenceService: regions of shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.errors import RegionNotFound, Unsupported
from server.rpc.methods import at_once, for_caller, nothing_to_cancel
from server.shared_memory import check_allowed
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from server.rpc.caller import Caller
    from server.rpc.methods import Cancel, Respond
    from server.serving import Serving
    from server.shared_memory import Policy, Regions


class SharedMemoryMethods:
    """Of the system's memory for the callers that `_shared_memory` says. Of CUDA's memory there are
    no regions, which can be asked and forgotten all the same, as clients do when they begin or end.
    """

    _serving: Serving
    _shared_memory: Policy

    def _regions(self, caller: Caller) -> Regions:
        """Those that the caller may use. Raises NotAllowed."""
        check_allowed(self._shared_memory, caller)
        return self._serving.regions

    @for_caller
    def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, respond: Respond, caller: Caller
    ) -> Cancel:
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._regions(caller).status(request.name):
            status = response.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        respond(response)
        return nothing_to_cancel

    @for_caller
    def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, respond: Respond, caller: Caller
    ) -> Cancel:
        self._regions(caller).register(request.name, request.key, request.offset, request.byte_size)
        respond(pb.SystemSharedMemoryRegisterResponse())
        return nothing_to_cancel

    @for_caller
    def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, respond: Respond, caller: Caller
    ) -> Cancel:
        self._regions(caller).unregister(request.name)
        respond(pb.SystemSharedMemoryUnregisterResponse())
        return nothing_to_cancel

    @at_once
    def CudaSharedMemoryStatus(self, request: pb.CudaSharedMemoryStatusRequest) -> Any:
        if request.name:
            raise RegionNotFound(f"Unable to find cuda shared memory region: '{request.name}'")
        return pb.CudaSharedMemoryStatusResponse()

    @at_once
    def CudaSharedMemoryRegister(self, request: pb.CudaSharedMemoryRegisterRequest) -> Any:
        raise Unsupported(
            f"failed to register CUDA shared memory region: '{request.name}': this server does not "
            "open the memory of other processes on a GPU; register system shared memory instead"
        )

    @at_once
    def CudaSharedMemoryUnregister(self, request: pb.CudaSharedMemoryUnregisterRequest) -> Any:
        return pb.CudaSharedMemoryUnregisterResponse()
