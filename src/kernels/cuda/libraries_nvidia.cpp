#include <cublas_v2.h>
#include <cusolverDn.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "calque/core/error.h"
#include "kernels/cuda/device.h"

// cuBLAS and cuSOLVER hold matrices by columns: a row-major matrix is the transpose of theirs. So a
// product is asked for with its operands swapped (C^T = B^T A^T), and a lower triangle is an upper
// one.

namespace calque::cuda {
namespace {

void check(cublasStatus_t status, const char* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const bool memory = status == CUBLAS_STATUS_ALLOC_FAILED;
  throw Error(memory ? ErrorKind::kResource : ErrorKind::kInternal, "",
              fmt::format("cuBLAS, while {}: {}", doing, cublasGetStatusString(status)));
}

void check(cusolverStatus_t status, const char* doing) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  const bool memory = status == CUSOLVER_STATUS_ALLOC_FAILED;
  throw Error(memory ? ErrorKind::kResource : ErrorKind::kInternal, "",
              fmt::format("cuSOLVER, while {}: status {}", doing, static_cast<int>(status)));
}

cudaDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    default:
      break;
  }
  throw Error(ErrorKind::kInternal, "", fmt::format("no product of {} on a GPU", name_of(dtype)));
}

// A leading dimension is at least 1, also of a matrix without elements.
Index leading(Index stride) { return std::max<Index>(stride, 1); }

}  // namespace

struct Libraries::Handles {
  explicit Handles(cudaStream_t cuda_stream) : stream(cuda_stream) {}
  ~Handles() {
    if (parameters != nullptr) cusolverDnDestroyParams(parameters);
    if (solver != nullptr) cusolverDnDestroy(solver);
    if (blas != nullptr) cublasDestroy(blas);
  }

  // The status that a factorisation left on the device; waits for it.
  int downloaded_info() {
    int value = 0;
    cuda::download(&value, sizeof(int), info.data(), sizeof(int), 1, stream);
    return value;
  }

  cudaStream_t stream;
  cublasHandle_t blas = nullptr;
  cusolverDnHandle_t solver = nullptr;
  cusolverDnParams_t parameters = nullptr;
  DeviceMatrix<int> info{1, 1};
};

Libraries::Libraries(cudaStream_t stream) : handles_(std::make_unique<Handles>(stream)) {
  Handles& h = *handles_;
  check(cublasCreate(&h.blas), "starting");
  check(cublasSetStream(h.blas, stream), "starting");
  // No TF32, and no 16-bit partial sums inside products of 16-bit operands.
  check(cublasSetMathMode(
            h.blas, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                              CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
        "starting");
  check(cusolverDnCreate(&h.solver), "starting");
  check(cusolverDnSetStream(h.solver, stream), "starting");
  check(cusolverDnCreateParams(&h.parameters), "starting");
}

Libraries::~Libraries() = default;

void Libraries::multiply(float alpha, DeviceView<const float> a_MK, DeviceView<const float> b_KN,
                         float beta, DeviceView<float> c_MN) {
  if (c_MN.rows == 0 || c_MN.cols == 0) return;
  check(cublasGemmEx_64(handles_->blas, CUBLAS_OP_N, CUBLAS_OP_N, c_MN.cols, c_MN.rows, a_MK.cols,
                        &alpha, b_KN.data, CUDA_R_32F, leading(b_KN.stride), a_MK.data, CUDA_R_32F,
                        leading(a_MK.stride), &beta, c_MN.data, CUDA_R_32F, leading(c_MN.stride),
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "multiplying");
}

void Libraries::add_transposed_product(DType dtype, DeviceView<const void> a_TM,
                                       DeviceView<const void> b_TN, DeviceView<float> c_MN) {
  if (c_MN.rows == 0 || c_MN.cols == 0 || a_TM.rows == 0) return;
  const float one = 1.0f;
  const cudaDataType type = type_of(dtype);
  check(cublasGemmEx_64(handles_->blas, CUBLAS_OP_N, CUBLAS_OP_T, c_MN.cols, c_MN.rows, a_TM.rows,
                        &one, b_TN.data, type, leading(b_TN.stride), a_TM.data, type,
                        leading(a_TM.stride), &one, c_MN.data, CUDA_R_32F, leading(c_MN.stride),
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "multiplying");
}

bool Libraries::factor_lower(DeviceView<float> a_KK) {
  if (a_KK.rows == 0) return true;
  Handles& h = *handles_;
  std::size_t device_bytes = 0, host_bytes = 0;
  check(cusolverDnXpotrf_bufferSize(h.solver, h.parameters, CUBLAS_FILL_MODE_UPPER, a_KK.rows,
                                    CUDA_R_32F, a_KK.data, a_KK.stride, CUDA_R_32F, &device_bytes,
                                    &host_bytes),
        "factoring");
  DeviceMatrix<std::byte> workspace(1, static_cast<Index>(device_bytes));
  std::vector<std::byte> host_workspace(host_bytes);
  check(cusolverDnXpotrf(h.solver, h.parameters, CUBLAS_FILL_MODE_UPPER, a_KK.rows, CUDA_R_32F,
                         a_KK.data, a_KK.stride, CUDA_R_32F, workspace.data(), device_bytes,
                         host_workspace.data(), host_bytes, h.info.data()),
        "factoring");
  return h.downloaded_info() == 0;
}

void Libraries::invert_lower(DeviceView<float> l_KK) {
  if (l_KK.rows == 0) return;
  Handles& h = *handles_;
  std::size_t device_bytes = 0, host_bytes = 0;
  check(
      cusolverDnXtrtri_bufferSize(h.solver, CUBLAS_FILL_MODE_UPPER, CUBLAS_DIAG_NON_UNIT, l_KK.rows,
                                  CUDA_R_32F, l_KK.data, l_KK.stride, &device_bytes, &host_bytes),
      "inverting a triangle");
  DeviceMatrix<std::byte> workspace(1, static_cast<Index>(device_bytes));
  std::vector<std::byte> host_workspace(host_bytes);
  check(cusolverDnXtrtri(h.solver, CUBLAS_FILL_MODE_UPPER, CUBLAS_DIAG_NON_UNIT, l_KK.rows,
                         CUDA_R_32F, l_KK.data, l_KK.stride, workspace.data(), device_bytes,
                         host_workspace.data(), host_bytes, h.info.data()),
        "inverting a triangle");
  // The workspaces must outlive the work.
  if (const int info = h.downloaded_info(); info != 0)
    throw Error(ErrorKind::kInternal, "",
                fmt::format("cuSOLVER: a triangle has a zero on its diagonal at {}", info - 1));
}

}  // namespace calque::cuda
