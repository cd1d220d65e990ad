#include "calque/kernels/gram.h"

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {
namespace {

void check(Index features, MatrixView<float> gram_KK, std::span<double> magnitude_K) {
  expect_shape("accumulate_gram", "gram_KK", gram_KK, features, features);
  expect_length("accumulate_gram", "magnitude_K", magnitude_K.size(), features);
}

}  // namespace

GramCount accumulate_gram(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec) {
  check(inputs_TK.cols(), gram_KK, magnitude_K);
  const Exec::Backend& backend = exec.backend();
  return backend.kernels.accumulate_gram_f32(inputs_TK, gram_KK, magnitude_K, backend);
}

GramCount accumulate_gram(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec) {
  check(inputs_TK.cols(), gram_KK, magnitude_K);
  const Exec::Backend& backend = exec.backend();
  return backend.kernels.accumulate_gram_bf16(inputs_TK, gram_KK, magnitude_K, backend);
}

double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec& exec) {
  expect_shape("gram_energy", "gram_KK", gram_KK, rows_NK.cols(), rows_NK.cols());
  return exec.backend().kernels.gram_energy(rows_NK, gram_KK, exec.backend());
}

}  // namespace calque
