#include "quant/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/panels.h"
#include "calque/kernels/scale_search.h"
#include "calque/quant/shared_scale.h"

namespace calque::quant {

namespace {

void expect_finite(MatrixView<const float> weight_NK, Index n) {
  const std::optional<std::size_t> k = first_nonfinite<float>(weight_NK.row_span(n));
  if (k)
    throw Error(ErrorKind::kNumerical, "",
                fmt::format("weight at row {}, column {} is {}; the checkpoint is damaged or "
                            "was saved after a diverged training, nothing can be rounded to it",
                            n, *k, weight_NK.row(n)[*k]));
}

// True if no magnitude is above `limit`, and none is NaN. Bits without the sign are in the order of
// the magnitudes, and the sign of an integer difference shows what is above: the loop vectorizes.
bool all_within(std::span<const float> values, float limit) {
  const auto most = std::bit_cast<std::int32_t>(limit);
  std::int32_t differences = 0;
  for (const float value : values)
    differences |= most - (std::bit_cast<std::int32_t>(value) & 0x7fffffff);
  return differences >= 0;
}

// The largest finite float that is not above `limit`.
float float_below(double limit) {
  const double largest = std::numeric_limits<float>::max();
  const auto nearest = static_cast<float>(std::min(limit, largest));
  return nearest > limit ? std::nextafter(nearest, 0.0f) : nearest;
}

}  // namespace

void expect_finite(MatrixView<const float> weight_NK) {
  for (Index n = 0; n < weight_NK.rows(); ++n) expect_finite(weight_NK, n);
}

void expect_fits(MatrixView<const float> weight_NK, const Grid& grid) {
  if (weight_NK.cols() > 0 && grid.divides(weight_NK.cols())) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("group size {} does not divide the {} inputs of the matrix",
                          grid.group_size, weight_NK.cols()));
}

UnreachableWeight::UnreachableWeight(Index row, Index column, std::string reason)
    : Error(ErrorKind::kNumerical, "E402",
            fmt::format("row {}, column {}: {}", row, column, reason)),
      row_(row),
      column_(column),
      reason_(std::move(reason)) {}

namespace {

constexpr std::string_view kWaysOut =
    "Leave this matrix unquantized (folders: a rule with skip: true; GGUF: tensor_types with type "
    "BF16)";

// The column of the largest magnitude among `columns`, at which a fault is reported.
Index largest_of(const float* row, const std::vector<Index>& columns) {
  return *std::ranges::max_element(columns, {}, [&](Index k) { return std::abs(row[k]); });
}

float largest_scale(const Grid& grid) {
  return rounded_scale(std::numeric_limits<float>::max(), grid.precision);
}

std::string reach_of(const Grid& grid) {
  const double limit = largest_scale(grid);
  if (grid.number)
    return fmt::format("weights reach {:.6g}", limit * info_of(*grid.number).largest);
  if (grid.offset_kind == OffsetKind::kMiddleCode)
    return fmt::format("weights reach {:.6g}", limit * (1 << (grid.bits - 1)));
  if (grid.offset_kind == OffsetKind::kZeroPoint)
    return fmt::format("the weights of a group and 0 span at most {:.6g}", limit * grid.max_code());
  return fmt::format("weights up to {:.6g} are sure to fit", limit);
}

[[noreturn]] void refuse(MatrixView<const float> weight_NK, const Grid& grid, Index n, Index k) {
  const float weight = weight_NK(n, k);
  if (grid.block)
    throw UnreachableWeight(
        n, k,
        fmt::format("{} is too large for {}: its scales are F16 numbers up to 65504, so it is sure "
                    "to hold {} weights up to {:.6g}. {}, or choose a type that reaches further",
                    weight, ggml::info_of(*grid.block).name, weight < 0 ? "negative" : "positive",
                    ggml::largest_weight(*grid.block, weight < 0), kWaysOut));
  throw UnreachableWeight(
      n, k,
      fmt::format("{} is too large for {}: scales go up to {}, so {}. {}", weight,
                  grid.description(), largest_scale(grid), reach_of(grid), kWaysOut));
}

// Weights between these may fit, others cannot. For blocks, see ggml::largest_weight; a group with
// a minimum ends at most half a step of its codes beyond it.
std::pair<double, double> reach(const Grid& grid) {
  if (grid.block) {
    const ggml::TypeInfo& info = ggml::info_of(*grid.block);
    const bool adds_minimum = info.support == ggml::Support::kGrid && info.has_minimum;
    return {-2 * ggml::largest_weight(info.type, true),
            (adds_minimum ? 1 << info.code_bits : 2) * ggml::largest_weight(info.type, false)};
  }
  const double limit = largest_scale(grid);
  if (grid.number) {
    const double end = limit * info_of(*grid.number).largest;
    return {-end, end};
  }
  switch (grid.offset_kind) {
    case OffsetKind::kMiddleCode: {
      const double end = limit * (0.5 + (1 << (grid.bits - 1)));
      return {-end, end};
    }
    case OffsetKind::kZeroPoint:
      return {-limit * (grid.max_code() + 1), limit * (grid.max_code() + 1)};
    case OffsetKind::kMinimum:
      break;
  }
  return {-1.5 * limit, limit * (grid.max_code() + 1.5)};
}

void expect_stored_blocks(MatrixView<const float> weight_NK, const QuantizedMatrix& q) {
  const ggml::TypeInfo& info = ggml::info_of(*q.grid.block);
  const Matrix<std::uint8_t>& rows_NB = q.blocks().rows_NB;
  const auto bytes =
      std::as_bytes(std::span(rows_NB.data(), static_cast<std::size_t>(rows_NB.size())));
  const std::optional<ggml::Fault> fault = ggml::find_fault(info.type, bytes);
  if (!fault) return;
  const Index in_row = weight_NK.cols() / info.block_columns;
  const Index n = static_cast<Index>(fault->block) / in_row;
  std::vector<Index> columns(static_cast<std::size_t>(info.block_columns));
  std::iota(columns.begin(), columns.end(),
            static_cast<Index>(fault->block) % in_row * info.block_columns);
  refuse(weight_NK, q.grid, n, largest_of(weight_NK.row(n), columns));
}

// The columns of each group.
std::vector<std::vector<Index>> columns_of_groups(const QuantizedMatrix& q) {
  const Index K = q.in_features();
  const std::vector<std::int32_t> groups_K = q.groups().group_of_column_K.empty()
                                                 ? consecutive_groups(K, q.grid.group_size_for(K))
                                                 : q.groups().group_of_column_K;
  std::vector<std::vector<Index>> columns_G(static_cast<std::size_t>(q.groups().scales_NG.cols()));
  for (Index k = 0; k < K; ++k)
    columns_G[static_cast<std::size_t>(groups_K[static_cast<std::size_t>(k)])].push_back(k);
  return columns_G;
}

}  // namespace

void expect_in_reach(MatrixView<const float> weight_NK, const Grid& grid) {
  const auto [lowest, highest] = reach(grid);
  const float sure = float_below(std::min(-lowest, highest));
  for (Index n = 0; n < weight_NK.rows(); ++n) {
    if (all_within(weight_NK.row_span(n), sure)) continue;
    expect_finite(weight_NK, n);
    for (Index k = 0; k < weight_NK.cols(); ++k)
      if (weight_NK(n, k) > highest || weight_NK(n, k) < lowest) refuse(weight_NK, grid, n, k);
  }
}

void expect_stored(MatrixView<const float> weight_NK, const QuantizedMatrix& q) {
  if (q.grid.block) return expect_stored_blocks(weight_NK, q);
  const float limit = largest_scale(q.grid);
  const bool has_minimum = q.grid.offset_kind == OffsetKind::kMinimum;
  const auto at_limit = [&](float value) { return !(std::abs(value) < limit); };
  std::vector<std::vector<Index>> columns_G;
  for (Index n = 0; n < q.out_features(); ++n)
    for (Index g = 0; g < q.groups().scales_NG.cols(); ++g) {
      const float scale = q.groups().scales_NG(n, g);
      const float offset = q.groups().offsets_NG(n, g);
      if (!at_limit(scale) && !(has_minimum && at_limit(offset))) continue;
      if (columns_G.empty()) columns_G = columns_of_groups(q);
      const Index k = largest_of(weight_NK.row(n), columns_G[static_cast<std::size_t>(g)]);
      // The end codes also take what is within half a step of them.
      const double end = q.grid.number ? info_of(*q.grid.number).largest : q.grid.max_code() + 0.5;
      const double ends[] = {offset - (q.grid.number ? end : 0.5) * scale, offset + end * scale};
      const double weight = weight_NK(n, k);
      if (weight >= std::min(ends[0], ends[1]) && weight <= std::max(ends[0], ends[1])) continue;
      refuse(weight_NK, q.grid, n, k);
    }
}

std::vector<float> channel_importance(const quant::InputStats& stats, double damp) {
  std::vector<float> importance_K = stats.mean_square_K();
  if (importance_K.empty()) return importance_K;
  const double mean = std::accumulate(importance_K.begin(), importance_K.end(), 0.0) /
                      static_cast<double>(importance_K.size());
  if (!std::isfinite(mean) || mean <= 0) return {};
  // Relative to the mean: only ratios matter, and they stay in the middle of fp32's range.
  for (float& importance : importance_K) importance = static_cast<float>(importance / mean + damp);
  return importance_K;
}

void make_hessian(MatrixView<float> gram_KK, Index tokens, const std::vector<double>& diagonal_K) {
  const float scale = 1.0f / static_cast<float>(tokens);
  for (Index i = 0; i < gram_KK.rows(); ++i) {
    float* row = gram_KK.row(i);
    for (Index j = 0; j < gram_KK.cols(); ++j) row[j] *= scale;
    row[i] = static_cast<float>(diagonal_K[static_cast<std::size_t>(i)]);
  }
}

void fill_lower(MatrixView<float> matrix_KK) {
  constexpr Index kTile = 32;  // keeps the columns that are read in cache
  const Index size = matrix_KK.rows();
  for (Index row = 0; row < size; row += kTile)
    for (Index col = 0; col <= row; col += kTile)
      for (Index i = row; i < std::min(size, row + kTile); ++i)
        for (Index j = col; j < std::min(i, col + kTile); ++j) matrix_KK(i, j) = matrix_KK(j, i);
}

double ErrorMeasure::operator()(MatrixView<const float> rows_NK, const Exec& exec) const {
  return scale * gram_energy(rows_NK, matrix_KK, exec) -
         (damping == 0 ? 0.0 : damping * sum_of_squares(rows_NK));
}

ErrorMeasure measure_of(const quant::InputStats& stats) {
  if (stats.gram_KK.empty()) return {};
  return {.matrix_KK = stats.gram_KK.view(), .scale = 1.0 / static_cast<double>(stats.tokens)};
}

GridView view_of(const QuantizedMatrix& q, std::span<const std::int32_t> groups_K) {
  return {.scales_NG = q.groups().scales_NG,
          .offsets_NG = q.groups().offsets_NG,
          .group_of_column_K = groups_K,
          .max_code = q.grid.max_code(),
          .number = q.grid.number};
}

namespace {

void choose_scales(std::span<const MatrixView<const float>> weights, const Grid& grid,
                   ScaleRule rule, std::span<const float> importance_K, MatrixView<float> scales_NG,
                   const Exec& exec) {
  if (scales_NG.empty()) return;
  float_scale_search(
      {.weights = weights,
       .number = *grid.number,
       .group_size = grid.group_size_for(weights.front().cols()),
       .scale_rows = std::min(grid.scale_rows_for(scales_NG.rows()), scales_NG.rows()),
       .precision = grid.precision,
       .divisor = grid.precision == ScalePrecision::kE4M3 ? grid.given_scale : 1,
       .rule = rule,
       .scales_NG = scales_NG},
      importance_K, exec);
}

bool searches(ScaleRule rule) {
  return rule == ScaleRule::kSearch || rule == ScaleRule::kBlockSearch;
}

// compressed-tensors makes the largest scale 448. Four over six (arXiv 2512.02010) and other
// searches may raise a scale to 1.5 of what covers its group, and 448 / 256 is 1.75.
float scale_divisor(std::span<const MatrixView<const float>> weights, const Grid& grid,
                    ScaleRule rule) {
  constexpr float kWithRoom = 256;
  float peak = 0;
  for (const MatrixView<const float> weight_NK : weights)
    for (Index n = 0; n < weight_NK.rows(); ++n)
      for (const float weight : weight_NK.row_span(n)) peak = std::max(peak, std::abs(weight));
  const float top = searches(rule) ? kWithRoom : info_of(SmallFloat::kE4M3).largest;
  const float divisor = top * info_of(*grid.number).largest / peak;
  return std::isfinite(divisor) ? divisor : 1;
}

}  // namespace

float shared_scale(std::span<const MatrixView<const float>> weights, const Grid& grid,
                   ScaleRule rule, const quant::InputStats& stats, const Exec& exec) {
  if (grid.precision == ScalePrecision::kE4M3) return scale_divisor(weights, grid, rule);
  Index rows = 0;
  for (const MatrixView<const float> weight_NK : weights) rows += weight_NK.rows();
  Matrix<float> scales_N1(rows, 1);
  choose_scales(weights, grid, rule, channel_importance(stats, kUnseenChannel), scales_N1, exec);
  return scales_N1(0, 0);
}

Grid with_scale(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                const ScaleGuide& guide, const Exec& exec) {
  if (!grid.shares_a_number() || grid.given_scale != 0 || weight_NK.empty()) return grid;
  Grid result = grid;
  if (grid.precision == ScalePrecision::kE4M3) {
    result.given_scale = scale_divisor({&weight_NK, 1}, grid, rule);
    return result;
  }
  Matrix<float> scales_N1(weight_NK.rows(), 1);
  choose_scales({&weight_NK, 1}, grid, rule, guide.importance_K, scales_N1, exec);
  result.given_scale = scales_N1(0, 0);
  return result;
}

QuantizedMatrix start_on_grid(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                              const ScaleGuide& guide, const Exec& exec) {
  const Index groups = grid.groups(weight_NK.cols());
  QuantizedMatrix q;
  q.grid = grid;
  q.groups().codes_NK = Matrix<std::uint8_t>(weight_NK.rows(), weight_NK.cols());
  q.groups().scales_NG = Matrix<float>(weight_NK.rows(), groups);
  q.groups().offsets_NG = Matrix<float>(weight_NK.rows(), groups);
  if (grid.number) {
    const bool coded = grid.precision == ScalePrecision::kE4M3;
    const Grid given = coded ? with_scale(weight_NK, grid, rule, guide, exec) : grid;
    if (coded) q.groups().scale_divisor = given.given_scale;
    if (grid.given_scale != 0 && !coded)
      std::fill_n(q.groups().scales_NG.data(), q.groups().scales_NG.size(), grid.given_scale);
    else
      choose_scales({&weight_NK, 1}, given, rule, guide.importance_K, q.groups().scales_NG, exec);
    q.grid.given_scale = 0;  // the matrix's scales hold it
    return q;
  }
  const ScaleSearch search = {.weight_NK = weight_NK,
                              .group_size = grid.group_size_for(weight_NK.cols()),
                              .options = {.bits = grid.bits,
                                          .offset_kind = grid.offset_kind,
                                          .precision = grid.precision,
                                          .min_zero = grid.min_zero,
                                          .rule = rule},
                              .scales_NG = q.groups().scales_NG,
                              .offsets_NG = q.groups().offsets_NG};
  if (rule == ScaleRule::kBlockSearch && !guide.hessian_KK.empty())
    block_scale_search(search, guide.hessian_KK, exec);
  else
    scale_search(search, guide.importance_K, exec);
  return q;
}

void subtract(MatrixView<const float> b, MatrixView<float> values) {
  for (Index r = 0; r < b.rows(); ++r) {
    const float* right = b.row(r);
    float* out = values.row(r);
    for (Index c = 0; c < b.cols(); ++c) out[c] -= right[c];
  }
}

namespace {

template <typename T>
void put_rows(const Matrix<T>& part, Index first, Index rows, Matrix<T>& whole) {
  if (first == 0) whole = Matrix<T>::uninitialized(rows, part.cols());
  std::copy_n(part.data(), part.size(), whole.row(first));
}

}  // namespace

void put_rows(QuantizedMatrix part, Index first, Index rows, QuantizedMatrix& q) {
  if (first == 0 && part.out_features() == rows) {
    q = std::move(part);
    return;
  }
  q.grid = part.grid;
  if (const auto* blocks = std::get_if<BlockRows>(&part.stored)) {
    if (first == 0) q.stored = BlockRows{};
    return put_rows(blocks->rows_NB, first, rows, q.blocks().rows_NB);
  }
  GroupCodes& from = part.groups();
  GroupCodes& to = q.groups();
  to.group_of_column_K = std::move(from.group_of_column_K);
  to.scale_divisor = from.scale_divisor;
  put_rows(from.codes_NK, first, rows, to.codes_NK);
  put_rows(from.scales_NG, first, rows, to.scales_NG);
  put_rows(from.offsets_NG, first, rows, to.offsets_NG);
}

double squared_error(MatrixView<const float> weight_NK, const QuantizedMatrix& q) {
  double total = 0;
  for_each_strip(weight_NK.rows(), weight_NK.cols(), [&](Index first, Index count) {
    Matrix<float> error_NK = dequantize(q, first, count);
    subtract(weight_NK.rows(first, count), error_NK);
    total += sum_of_squares(error_NK);
  });
  return total;
}

void measure_error(MatrixView<const float> weight_NK, const QuantizedMatrix& q,
                   const ErrorMeasure& measure, const Exec& exec, RoundingReport& report) {
  const bool calibrated = !measure.matrix_KK.empty();
  double loss = 0, energy = 0;
  for_each_strip(weight_NK.rows(), weight_NK.cols(), [&](Index first, Index count) {
    Matrix<float> error_NK = dequantize(q, first, count);
    subtract(weight_NK.rows(first, count), error_NK);
    const MatrixView<const float> rows_NK = weight_NK.rows(first, count);
    loss += calibrated ? measure(error_NK, exec) : sum_of_squares(error_NK);
    energy += calibrated ? measure(rows_NK, exec) : sum_of_squares(rows_NK);
  });
  loss = std::max(0.0, loss);
  if (calibrated) report.loss = loss;
  report.relative_error = energy > 0 ? loss / energy : 0;
}

Order stored_order(std::size_t columns) {
  Order order(columns);
  std::iota(order.begin(), order.end(), Index{0});
  return order;
}

Order falling_order(const std::vector<float>& diagonal_K) {
  Order order = stored_order(diagonal_K.size());
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return diagonal_K[static_cast<std::size_t>(a)] > diagonal_K[static_cast<std::size_t>(b)];
  });
  return order;
}

Matrix<float> columns_in_order(MatrixView<const float> weight_NK, const Order& order) {
  auto ordered = Matrix<float>::uninitialized(weight_NK.rows(), weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); ++n) {
    const float* source = weight_NK.row(n);
    float* target = ordered.row(n);
    for (std::size_t i = 0; i < order.size(); ++i) target[i] = source[order[i]];
  }
  return ordered;
}

std::vector<float> in_order(const std::vector<float>& values_K, const Order& order) {
  std::vector<float> ordered;
  if (values_K.empty()) return ordered;
  for (const Index k : order) ordered.push_back(values_K[static_cast<std::size_t>(k)]);
  return ordered;
}

void put_square_in_order(MatrixView<float> matrix_KK, const Order& order) {
  const Index size = matrix_KK.rows();
  std::vector<float> kept(static_cast<std::size_t>(size));
  for (Index i = 0; i < size; ++i) {
    float* row = matrix_KK.row(i);
    std::copy_n(row, size, kept.begin());
    for (std::size_t j = 0; j < order.size(); ++j)
      row[j] = kept[static_cast<std::size_t>(order[j])];
  }
  // Moves row order[i] to row i along each cycle of the permutation.
  std::vector<char> done(order.size());
  for (Index start = 0; start < size; ++start) {
    if (done[static_cast<std::size_t>(start)]) continue;
    std::copy_n(matrix_KK.row(start), size, kept.begin());
    Index i = start;
    for (Index next = order[i]; next != start; i = next, next = order[i]) {
      std::copy_n(matrix_KK.row(next), size, matrix_KK.row(i));
      done[static_cast<std::size_t>(i)] = 1;
    }
    std::copy_n(kept.begin(), size, matrix_KK.row(i));
    done[static_cast<std::size_t>(i)] = 1;
  }
}

Matrix<float> upper_in_order(MatrixView<const float> matrix_KK, const Order& order, float scale) {
  const Index size = matrix_KK.rows();
  auto ordered_KK = Matrix<float>::uninitialized(size, size);
  for (Index i = 0; i < size; ++i) {
    const float* source = matrix_KK.row(order[static_cast<std::size_t>(i)]);
    float* target = ordered_KK.row(i);
    for (Index j = i; j < size; ++j) target[j] = scale * source[order[static_cast<std::size_t>(j)]];
  }
  return ordered_KK;
}

void restore_order(const Matrix<std::uint8_t>& ordered, const Order& order,
                   Matrix<std::uint8_t>& codes_NK) {
  for (Index n = 0; n < ordered.rows(); ++n) {
    const std::uint8_t* source = ordered.row(n);
    std::uint8_t* target = codes_NK.row(n);
    for (std::size_t i = 0; i < order.size(); ++i) target[order[i]] = source[i];
  }
}

void restore_order(QuantizedMatrix& q, const Order& order) {
  const Matrix<std::uint8_t> ordered =
      std::exchange(q.groups().codes_NK, Matrix<std::uint8_t>(q.out_features(), q.in_features()));
  restore_order(ordered, order, q.groups().codes_NK);
  const Index group_size = q.grid.group_size_for(q.in_features());
  q.groups().group_of_column_K.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    q.groups().group_of_column_K[static_cast<std::size_t>(order[i])] =
        static_cast<std::int32_t>(static_cast<Index>(i) / group_size);
}

std::uint64_t strip_bytes(const RoundingOptions& options, const Grid& grid, Index N, Index K,
                          std::uint64_t threads) {
  const auto strip = static_cast<std::uint64_t>(std::min(N * K, options.strip_weights));
  return sizeof(float) * strip * (grid.desc_act ? 2 : 1) + panel_scratch_bytes(K, threads);
}

std::uint64_t code_bytes(const Grid& grid, Index N, Index K) {
  if (grid.block) return static_cast<std::uint64_t>(N) * ggml::row_bytes(*grid.block, K);
  return static_cast<std::uint64_t>(N * K);
}

std::uint64_t scale_bytes(const Grid& grid, Index N, Index K) {
  return grid.block ? 0 : 2 * sizeof(float) * static_cast<std::uint64_t>(N * grid.groups(K));
}

}  // namespace calque::quant
