#include "calque/quant/upstream.h"

#include <algorithm>
#include <cmath>

#include "calque/kernels/products.h"
#include "quant/gptq_site.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

Matrix<float> transposed(MatrixView<const float> m) {
  auto result = Matrix<float>::uninitialized(m.cols(), m.rows());
  for (Index r = 0; r < m.rows(); ++r)
    for (Index c = 0; c < m.cols(); ++c) result(c, r) = m(r, c);
  return result;
}

void multiply_by(double factor, Matrix<float>& m) {
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(factor * m.data()[i]);
}

double trust_in(double explained, double total, double coefficients, double tokens) {
  if (!(explained > 0)) return 0;
  const double rest = std::max(0.0, total - explained);
  return std::max(0.0, 1 - coefficients / (tokens - coefficients) * rest / explained);
}

// tr(H^-1) = |U|^2.
double coefficients_of(const GptqSite& site) {
  const auto channels = static_cast<double>(site.inverse_factor_KK.rows());
  return channels - site.damping * sum_of_squares(site.inverse_factor_KK);
}

GptqSite factored_in_stored_order(const calib::InputStats& stats, GptqOptions options,
                                  const Exec& exec) {
  options.act_order = false;
  options.refine_passes = 0;
  options.scale_rule = ScaleRule::kSearch;
  return prepare_gptq(stats, options, exec);
}

}  // namespace

std::optional<UpstreamCorrection> upstream_correction(const calib::InputStats& stats,
                                                      const InputShift& shift, double strength,
                                                      const GptqOptions& options,
                                                      const Exec& exec) {
  const GptqSite site = factored_in_stored_order(stats, options, exec);
  if (!site.failure.empty()) return std::nullopt;
  const auto tokens = static_cast<double>(stats.tokens);
  const double coefficients = coefficients_of(site);
  if (tokens <= coefficients) return std::nullopt;
  // H^-1 = U^T U: with M = C U^T, C H^-1 = M U and tr(C H^-1 C^T) = |M|^2.
  Matrix<float> half_KK = multiply(shift.cross_KK, transposed(site.inverse_factor_KK), exec);
  multiply_by(1 / tokens, half_KK);
  UpstreamCorrection correction;
  correction.trust =
      strength * trust_in(sum_of_squares(half_KK), shift.energy / tokens, coefficients, tokens);
  correction.change_KK = multiply(half_KK, site.inverse_factor_KK, exec);
  multiply_by(correction.trust, correction.change_KK);
  return correction;
}

double correct_upstream(const UpstreamCorrection& correction, MatrixView<float> weight_NK,
                        const Exec& exec) {
  const Matrix<float> change_NK = multiply(weight_NK, correction.change_KK, exec);
  const double weight_energy = sum_of_squares(weight_NK);
  for (Index n = 0; n < weight_NK.rows(); ++n)
    for (Index k = 0; k < weight_NK.cols(); ++k) weight_NK(n, k) += change_NK(n, k);
  return weight_energy > 0 ? std::sqrt(sum_of_squares(change_NK) / weight_energy) : 0;
}

}  // namespace calque::quant
