#include "forward/cpu/activation.h"

#include <sleef.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numbers>
#include <span>

#include "forward/cpu/rows.h"

namespace calque::forward {
namespace {

// Sleef's tanh of the widest vector there is, within 1 unit in the last place. Its results are the
// same for every width with fused multiply-add, and those of PyTorch.
#if defined(__AVX512F__)
using Vector = __m512;
Vector tanh_of(Vector x) { return Sleef_tanhf16_u10(x); }
#elif defined(__AVX__)
using Vector = __m256;
Vector tanh_of(Vector x) { return Sleef_tanhf8_u10(x); }
#elif defined(__SSE2__)
using Vector = __m128;
Vector tanh_of(Vector x) { return Sleef_tanhf4_u10(x); }
#else
using Vector = float;
Vector tanh_of(Vector x) { return Sleef_tanhf_u10(x); }
#endif
constexpr Index kLanes = sizeof(Vector) / sizeof(float);
using Lanes = std::array<float, kLanes>;

Lanes tanh_of(const Lanes& values) {
  Vector vector;
  std::memcpy(&vector, values.data(), sizeof(vector));
  vector = tanh_of(vector);
  Lanes result;
  std::memcpy(result.data(), &vector, sizeof(vector));
  return result;
}

template <typename T>
std::span<T> all_of(MatrixView<T> matrix) {
  assert(matrix.rows() <= 1 || matrix.stride() == matrix.cols());
  return {matrix.data(), static_cast<std::size_t>(matrix.size())};
}

constexpr auto kBeta = static_cast<float>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
constexpr float kKappa = 0.044715f;

// gelu(x) = x / 2 (1 + tanh(beta (x + kappa x^3))), beta = sqrt(2 / pi).
float inner_of(float x) { return kBeta * multiply_add(kKappa, x * x * x, x); }
float gelu_of(float x, float tanh) { return 0.5f * x * (1.0f + tanh); }

// In bf16 every step is rounded.
float rounded(float x) { return rounded_to_bfloat16(x); }
float inner_in_bf16(float x) {
  const float cube = rounded(rounded(x * x) * x);
  return rounded(rounded(kBeta) * rounded(x + rounded(rounded(kKappa) * cube)));
}
float gelu_in_bf16(float x, float tanh) {
  return rounded(0.5f * x) * rounded(1.0f + rounded(tanh));
}

// values = after(value, tanh(before(value))), whole vectors of them; returns how many these are.
template <typename T, typename Before, typename After>
Index through_tanh(std::span<T> values, Before before, After after) {
  const std::size_t whole = values.size() - values.size() % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    Lanes lanes;
    for (std::size_t j = 0; j < kLanes; ++j) lanes[j] = before(widened(values[i + j]));
    lanes = tanh_of(lanes);
    for (std::size_t j = 0; j < kLanes; ++j)
      store(after(widened(values[i + j]), lanes[j]), values[i + j]);
  }
  return static_cast<Index>(whole);
}

void gelu(std::span<float> values) {
  const auto whole = static_cast<std::size_t>(through_tanh(values, inner_of, gelu_of));
  // PyTorch takes the C library's function for what is left of whole vectors.
  for (float& x : values.subspan(whole)) x = gelu_of(x, std::tanh(inner_of(x)));
}

// All 65,536 results are the same with either tanh.
void gelu(std::span<BFloat16> values) {
  const auto whole = static_cast<std::size_t>(through_tanh(values, inner_in_bf16, gelu_in_bf16));
  for (BFloat16& x : values.subspan(whole))
    store(gelu_in_bf16(widened(x), std::tanh(inner_in_bf16(widened(x)))), x);
}

template <typename Before>
void cap_all(float cap, std::span<float> values, Before before) {
  const auto after = [cap](float, float tanh) { return tanh * cap; };
  const auto whole = static_cast<std::size_t>(through_tanh(values, before, after));
  Lanes rest{};
  const std::size_t count = values.size() - whole;
  std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(whole), count, rest.begin());
  through_tanh(std::span<float>(rest), before, after);
  std::copy_n(rest.begin(), count, values.begin() + static_cast<std::ptrdiff_t>(whole));
}

template <typename T>
void multiply_by(MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  for (Index t = 0; t < gate_TN.rows(); ++t)
    for (Index i = 0; i < gate_TN.cols(); ++i)
      store(widened(gate_TN(t, i)) * widened(up_TN(t, i)), gate_TN(t, i));
}

template <typename T>
void gate_with_silu(MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  for (Index t = 0; t < gate_TN.rows(); ++t) {
    const T* const up = up_TN.row(t);
    T* const gate = gate_TN.row(t);
    for (Index i = 0; i < gate_TN.cols(); ++i)
      store(silu(widened(gate[i])) * widened(up[i]), gate[i]);
  }
}

}  // namespace

template <typename T>
void gate(const std::string& act, MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  if (act == "silu") return gate_with_silu(up_TN, gate_TN);
  gelu(all_of(gate_TN));
  multiply_by(up_TN, gate_TN);
}

template void gate(const std::string&, MatrixView<const float>, MatrixView<float>);
template void gate(const std::string&, MatrixView<const BFloat16>, MatrixView<BFloat16>);

void cap_scores(float scale, float cap, MatrixView<float> scores) {
  cap_all(cap, all_of(scores), [factor = scale / cap](float score) { return score * factor; });
}

void cap_logits(float cap, MatrixView<float> logits) {
  cap_all(cap, all_of(logits), [cap](float logit) { return logit / cap; });
}

}  // namespace calque::forward
