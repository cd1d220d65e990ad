#include "calque/quant/upstream.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "calque/kernels/products.h"
#include "quant/gptq.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

void transpose(MatrixView<float> square) {
  constexpr Index kTile = 32;  // keeps the columns in cache
  const Index size = square.rows();
  for (Index row = 0; row < size; row += kTile)
    for (Index col = 0; col <= row; col += kTile)
      for (Index i = row; i < std::min(size, row + kTile); ++i)
        for (Index j = col; j < std::min(i, col + kTile); ++j)
          std::swap(square(i, j), square(j, i));
}

// rows = rows * b, one strip at a time.
void multiply_in_place(MatrixView<float> rows_NK, MatrixView<const float> b_KK, const Exec& exec) {
  for_each_strip(rows_NK.rows(), rows_NK.cols(), [&](Index first, Index count) {
    const MatrixView<float> strip = rows_NK.rows(first, count);
    const Matrix<float> product = multiply(strip, b_KK, exec);
    std::copy_n(product.data(), product.size(), strip.data());
  });
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

GptqSite factored_in_stored_order(const quant::InputStats& stats, RoundingOptions options,
                                  const Exec& exec) {
  options.act_order = false;
  return factor_site(stats, options, exec);
}

}  // namespace

std::optional<UpstreamCorrection> upstream_correction(const quant::InputStats& stats,
                                                      InputShift shift, double strength,
                                                      const RoundingOptions& options,
                                                      const Exec& exec) {
  GptqSite site = factored_in_stored_order(stats, options, exec);
  if (!site.failure.empty()) return std::nullopt;
  const auto tokens = static_cast<double>(stats.tokens);
  const double coefficients = coefficients_of(site);
  if (tokens <= coefficients) return std::nullopt;
  // H^-1 = U^T U: with M = C U^T, C H^-1 = M U and tr(C H^-1 C^T) = |M|^2. M and the result reuse
  // C's memory.
  UpstreamCorrection correction;
  correction.change_KK = std::move(shift.cross_KK);
  transpose(site.inverse_factor_KK);
  multiply_in_place(correction.change_KK, site.inverse_factor_KK, exec);
  multiply_by(1 / tokens, correction.change_KK);
  correction.trust = strength * trust_in(sum_of_squares(correction.change_KK),
                                         shift.energy / tokens, coefficients, tokens);
  transpose(site.inverse_factor_KK);
  multiply_in_place(correction.change_KK, site.inverse_factor_KK, exec);
  multiply_by(correction.trust, correction.change_KK);
  return correction;
}

double correct_upstream(const UpstreamCorrection& correction, MatrixView<float> weight_NK,
                        const Exec& exec) {
  const double weight_energy = sum_of_squares(weight_NK);
  double change_energy = 0;
  for_each_strip(weight_NK.rows(), weight_NK.cols(), [&](Index first, Index count) {
    const MatrixView<float> rows_NK = weight_NK.rows(first, count);
    const Matrix<float> change_NK = multiply(rows_NK, correction.change_KK, exec);
    change_energy += sum_of_squares(change_NK);
    for (Index n = 0; n < count; ++n)
      for (Index k = 0; k < rows_NK.cols(); ++k) rows_NK(n, k) += change_NK(n, k);
  });
  return weight_energy > 0 ? std::sqrt(change_energy / weight_energy) : 0;
}

}  // namespace calque::quant
