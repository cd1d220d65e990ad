#include "calque/kernels/products.h"

#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <string>

#include "calque/core/onednn.h"
#include "kernels/checks.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

void gemm(char transpose_a, Index inner, float alpha, MatrixView<const float> a,
          MatrixView<const float> b, float beta, MatrixView<float> c) {
  if (c.empty()) return;
  limit_onednn();
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a, 'N', c.rows(), c.cols(), inner, alpha, a.data(), a.stride(), b.data(),
                 b.stride(), beta, c.data(), c.stride());
  if (status != dnnl_success)
    throw Error(ErrorKind::kInternal, "",
                "dnnl_sgemm failed with status " + std::to_string(status));
}

}  // namespace

void sgemm(float alpha, MatrixView<const float> a, MatrixView<const float> b, float beta,
           MatrixView<float> c) {
  gemm('N', a.cols(), alpha, a, b, beta, c);
}

void sgemm_transposed(float alpha, MatrixView<const float> a, MatrixView<const float> b, float beta,
                      MatrixView<float> c) {
  gemm('T', a.rows(), alpha, a, b, beta, c);
}

}  // namespace calque::cpu

namespace calque {
namespace {

// Rows of the result that one worker computes on one thread: the cut does not depend on how many
// workers there are.
constexpr Index kStripRows = 64;

template <typename Body>
void for_each_strip(Index rows, const Exec& exec, Body body) {
  exec.backend().workers.for_each((rows + kStripRows - 1) / kStripRows, [&](Index strip) {
    const Index first = strip * kStripRows;
    body(first, std::min(kStripRows, rows - first));
  });
}

}  // namespace

Matrix<float> multiply(MatrixView<const float> a_NK, MatrixView<const float> b_KM,
                       const Exec& exec) {
  expect_shape("multiply", "b_KM", b_KM, a_NK.cols(), b_KM.cols());
  Matrix<float> product_NM(a_NK.rows(), b_KM.cols());
  for_each_strip(a_NK.rows(), exec, [&](Index first, Index count) {
    cpu::sgemm(1.0f, a_NK.rows(first, count), b_KM, 0.0f, product_NM.view().rows(first, count));
  });
  return product_NM;
}

void accumulate_product(MatrixView<const float> a_TK, MatrixView<const float> b_TM,
                        MatrixView<float> sum_KM, const Exec& exec) {
  expect_shape("accumulate_product", "b_TM", b_TM, a_TK.rows(), b_TM.cols());
  expect_shape("accumulate_product", "sum_KM", sum_KM, a_TK.cols(), b_TM.cols());
  if (a_TK.rows() == 0) return;
  for_each_strip(sum_KM.rows(), exec, [&](Index first, Index count) {
    cpu::sgemm_transposed(1.0f, a_TK.cols(first, count), b_TM, 1.0f, sum_KM.rows(first, count));
  });
}

}  // namespace calque
