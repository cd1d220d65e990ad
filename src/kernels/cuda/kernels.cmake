# Files with kernels: nvcc compiles them for the plug-in, the host's compiler for the tests'
# emulation.
set(CALQUE_CUDA_KERNEL_FILES ${CMAKE_CURRENT_LIST_DIR}/gram.cu
                                 ${CMAKE_CURRENT_LIST_DIR}/gram_energy.cu)
