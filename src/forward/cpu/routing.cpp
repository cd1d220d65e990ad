#include "forward/cpu/routing.h"

#include <cmath>

#include "forward/cpu/products.h"

namespace calque::forward {
namespace {

void softmax(float* values, Index count) {
  const float largest = *std::max_element(values, values + count);
  float sum = 0;
  for (Index i = 0; i < count; ++i) sum += values[i] = std::exp(values[i] - largest);
  for (Index i = 0; i < count; ++i) values[i] /= sum;
}

// Indices of the `used` largest. One pass for each, so that NaNs do no harm.
std::vector<Index> largest_of(const float* values, Index count, Index used) {
  std::vector<Index> result;
  std::vector<bool> taken(static_cast<std::size_t>(count), false);
  for (Index n = 0; n < used; ++n) {
    Index best = -1;
    for (Index i = 0; i < count; ++i)
      if (!taken[static_cast<std::size_t>(i)] && (best < 0 || values[i] > values[best])) best = i;
    taken[static_cast<std::size_t>(best)] = true;
    result.push_back(best);
  }
  return result;
}

}  // namespace

Routing route(const model::ExpertsSpec& spec, MatrixView<const float> router_EH,
              MatrixView<const float> normed_TH) {
  Routing routing;
  routing.experts.resize(static_cast<std::size_t>(spec.count));
  Matrix<float> probabilities_TE = Matrix<float>::uninitialized(normed_TH.rows(), spec.count);
  multiply_transposed(normed_TH, router_EH, probabilities_TE);
  for (Index t = 0; t < normed_TH.rows(); ++t) {
    float* const row = probabilities_TE.row(t);
    softmax(row, spec.count);
    const std::vector<Index> chosen = largest_of(row, spec.count, spec.used);
    float sum = 0;
    for (const Index e : chosen) sum += row[e];
    for (const Index e : chosen) {
      Routing::Expert& expert = routing.experts[static_cast<std::size_t>(e)];
      expert.rows.push_back(t);
      expert.weights.push_back(spec.normalize ? row[e] / sum : row[e]);
    }
  }
  return routing;
}

std::vector<float> shared_weights(MatrixView<const float> gate_1H,
                                  MatrixView<const float> normed_TH) {
  Matrix<float> scores_T1 = Matrix<float>::uninitialized(normed_TH.rows(), 1);
  multiply_transposed(normed_TH, gate_1H, scores_T1);
  std::vector<float> weights;
  for (Index t = 0; t < normed_TH.rows(); ++t)
    weights.push_back(1.0f / (1.0f + std::exp(-scores_T1(t, 0))));
  return weights;
}

}  // namespace calque::forward
