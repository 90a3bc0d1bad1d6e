"""GRPCInferenceService: regions of shared memory."""

from __future__ import annotations

from server.rpc.methods import not_offered


class SharedMemoryMethods:
    SystemSharedMemoryStatus = not_offered("SystemSharedMemoryStatus")
    SystemSharedMemoryRegister = not_offered("SystemSharedMemoryRegister")
    SystemSharedMemoryUnregister = not_offered("SystemSharedMemoryUnregister")
    CudaSharedMemoryStatus = not_offered("CudaSharedMemoryStatus")
    CudaSharedMemoryRegister = not_offered("CudaSharedMemoryRegister")
    CudaSharedMemoryUnregister = not_offered("CudaSharedMemoryUnregister")
