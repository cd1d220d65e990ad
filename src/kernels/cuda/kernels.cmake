# Files with kernels: nvcc compiles them for the plug-in, the host's compiler for the tests'
# emulation.
set(CALQUE_CUDA_KERNEL_FILES
    ${CMAKE_CURRENT_LIST_DIR}/gptq_sweep.cu
    ${CMAKE_CURRENT_LIST_DIR}/gram.cu
    ${CMAKE_CURRENT_LIST_DIR}/gram_energy.cu
    ${CMAKE_CURRENT_LIST_DIR}/inverse_cholesky.cu
    ${CMAKE_CURRENT_LIST_DIR}/pack_bits.cu
    ${CMAKE_CURRENT_LIST_DIR}/refine_grid.cu
    ${CMAKE_CURRENT_LIST_DIR}/round_to_grid.cu
    ${CMAKE_CURRENT_LIST_DIR}/scale_search.cu)

# The plug-in and the emulated backend have these beside them.
set(CALQUE_CUDA_HOST_FILES
    ${CMAKE_CURRENT_LIST_DIR}/backend.cpp ${CMAKE_CURRENT_LIST_DIR}/device.cpp)
