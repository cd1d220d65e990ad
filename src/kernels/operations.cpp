// The operations as other rooms call them: the arguments are checked here, once for all devices,
// and the device's kernel does the rest.
#include "calque/kernels/operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "calque/core/error.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/kernels/pack_bits.h"
#include "kernels/checks.h"
#include "kernels/grid_storage.h"
#include "kernels/kernel_table.h"

namespace calque {
namespace {

// One scale and offset a group and row, and a group for every column.
void expect_grid(std::string_view op, const GridView& grid, Index rows, Index cols) {
  const Index groups = grid.scales_NG.cols();
  expect_shape(op, "scales_NG", grid.scales_NG, rows, groups);
  expect_shape(op, "offsets_NG", grid.offsets_NG, rows, groups);
  expect_length(op, "group_of_column_K", grid.group_of_column_K.size(), cols);
  for (const std::int32_t group : grid.group_of_column_K)
    expect_range(op, "group_of_column_K", group, 0, groups - 1);
  expect_range(op, "max_code", grid.max_code, 1, 255);
  if (grid.number)
    expect_range(op, "max_code", grid.max_code, info_of(*grid.number).max_code(),
                 info_of(*grid.number).max_code());
}

// Grids of floating-point numbers are for devices that can choose their scales.
void expect_floats(std::string_view op, std::optional<SmallFloat> number, const Exec& exec) {
  if (!number || provides(exec, Operation::kFloatScaleSearch)) return;
  throw Error(
      ErrorKind::kInternal, "",
      fmt::format("{}: {} has no grids of {} numbers", op, exec.name(), info_of(*number).name));
}

void expect_whole_groups(std::string_view op, Index columns, Index group_size) {
  expect_range(op, "group_size", group_size, 1, columns);
  expect_range(op, "columns beyond the last whole group", columns % group_size, 0, 0);
}

}  // namespace

// ---- The list

std::string_view name_of(Operation operation) {
  switch (operation) {
#define CALQUE_NAME(enumerator, name, ...) \
  case Operation::enumerator:              \
    return #name;
    CALQUE_OPERATIONS(CALQUE_NAME, CALQUE_NAME)
#undef CALQUE_NAME
  }
  return "unknown";
}

std::span<const Operation> all_operations() {
#define CALQUE_ENUMERATOR(enumerator, ...) Operation::enumerator,
  static constexpr Operation kOperations[] = {
      CALQUE_OPERATIONS(CALQUE_ENUMERATOR, CALQUE_ENUMERATOR)};
#undef CALQUE_ENUMERATOR
  return kOperations;
}

bool provides(const Exec& exec, Operation operation) {
  const KernelTable& kernels = exec.backend().kernels;
  switch (operation) {
#define CALQUE_HAS(enumerator, name, ...) \
  case Operation::enumerator:             \
    return kernels.name != nullptr;
    CALQUE_OPERATIONS(CALQUE_HAS, CALQUE_HAS)
#undef CALQUE_HAS
  }
  return false;
}

// ---- Gram matrices

namespace {

// Checks what comes, and keeps the device open as long as sums are on it.
class CheckedSums : public GramSum::Sums {
 public:
  CheckedSums(Index features, const Exec& exec)
      : features_(features),
        exec_(exec),
        sums_(exec.backend().kernels.gram(features, exec.backend())) {}
  void add(MatrixView<const float> inputs_TK) override {
    expect_features(inputs_TK.cols());
    sums_->add(inputs_TK);
  }
  void add(MatrixView<const BFloat16> inputs_TK) override {
    expect_features(inputs_TK.cols());
    sums_->add(inputs_TK);
  }
  void add(const DeviceRows& inputs_TK) override {
    expect_features(inputs_TK.cols);
    const std::string device = fmt::format("cuda:{}", inputs_TK.device);
    if (device != exec_.name())
      throw Error(
          ErrorKind::kInternal, "",
          fmt::format("GramSum: rows on {} were given to sums on {}", device, exec_.name()));
    sums_->add(inputs_TK);
  }
  void start_from(MatrixView<const float> gram_KK, std::span<const double> magnitude_K) override {
    sums_->start_from(gram_KK, magnitude_K);
  }
  GramSum::Result finish() override { return sums_->finish(); }

 private:
  void expect_features(Index cols) const {
    expect_range("GramSum::add", "features of inputs_TK", cols, features_, features_);
  }

  Index features_;
  Exec exec_;
  std::unique_ptr<GramSum::Sums> sums_;
};

template <typename T>
GramCount accumulate(MatrixView<const T> inputs_TK, MatrixView<float> gram_KK,
                     std::span<double> magnitude_K, const Exec& exec) {
  const Index features = inputs_TK.cols();
  expect_shape("accumulate_gram", "gram_KK", gram_KK, features, features);
  expect_length("accumulate_gram", "magnitude_K", magnitude_K.size(), features);
  CheckedSums sums(features, exec);
  sums.start_from(gram_KK, magnitude_K);
  sums.add(inputs_TK);
  const GramSum::Result result = sums.finish();
  for (Index i = 0; i < features; ++i)
    std::copy(result.gram_KK.row(i) + i, result.gram_KK.row(i) + features, gram_KK.row(i) + i);
  std::copy(result.magnitude_K.begin(), result.magnitude_K.end(), magnitude_K.begin());
  return result.count;
}

}  // namespace

GramCount accumulate_gram(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec) {
  return accumulate(inputs_TK, gram_KK, magnitude_K, exec);
}
GramCount accumulate_gram(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec) {
  return accumulate(inputs_TK, gram_KK, magnitude_K, exec);
}

GramSum::GramSum(Index features, const Exec& exec)
    : sums_(std::make_unique<CheckedSums>(features, exec)) {}
GramSum::~GramSum() = default;
GramSum::GramSum(GramSum&&) noexcept = default;

void GramSum::add(MatrixView<const float> inputs_TK) { sums_->add(inputs_TK); }
void GramSum::add(MatrixView<const BFloat16> inputs_TK) { sums_->add(inputs_TK); }
void GramSum::add(const DeviceRows& inputs_TK) { sums_->add(inputs_TK); }
GramSum::Result GramSum::finish() { return sums_->finish(); }

double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec& exec) {
  expect_shape("gram_energy", "gram_KK", gram_KK, rows_NK.cols(), rows_NK.cols());
  return exec.backend().kernels.gram_energy(rows_NK, gram_KK, exec.backend());
}

// ---- Rounding

std::optional<Matrix<float>> inverse_cholesky(MatrixView<const float> hessian_KK,
                                              const Exec& exec) {
  return inverse_cholesky(Matrix<float>::copy_of(hessian_KK), exec);
}

std::optional<Matrix<float>> inverse_cholesky(Matrix<float>&& hessian_KK, const Exec& exec) {
  expect_shape("inverse_cholesky", "hessian_KK", hessian_KK.view(), hessian_KK.rows(),
               hessian_KK.rows());
  Matrix<float> matrix_KK = std::move(hessian_KK);
  if (!exec.backend().kernels.inverse_cholesky(matrix_KK, exec.backend())) return std::nullopt;
  return matrix_KK;
}

void round_to_grid(MatrixView<const float> weight_NK, const GridView& grid,
                   MatrixView<std::uint8_t> codes_NK, const Exec& exec) {
  constexpr std::string_view kOp = "round_to_grid";
  expect_grid(kOp, grid, weight_NK.rows(), weight_NK.cols());
  expect_length(kOp, "table", grid.table.size(), 0);
  expect_shape(kOp, "codes_NK", codes_NK, weight_NK.rows(), weight_NK.cols());
  expect_floats(kOp, grid.number, exec);
  exec.backend().kernels.round_to_grid(weight_NK, grid, codes_NK, exec.backend());
}

double gptq_sweep(const GptqSweep& sweep, const Exec& exec) {
  constexpr std::string_view kOp = "gptq_sweep";
  const Index rows = sweep.weight_NK.rows();
  const Index columns = sweep.weight_NK.cols();
  expect_grid(kOp, sweep.grid, rows, columns);
  expect_shape(kOp, "inverse_factor_KK", sweep.inverse_factor_KK, columns, columns);
  expect_shape(kOp, "codes_NK", sweep.codes_NK, rows, columns);
  expect_range(kOp, "block_size", sweep.block_size, 1, 1 << 20);
  if (!sweep.grid.table.empty())
    expect_length(kOp, "table", sweep.grid.table.size(), sweep.grid.max_code + 1);
  expect_floats(kOp, sweep.grid.number, exec);
  return exec.backend().kernels.gptq_sweep(sweep, exec.backend());
}

// ---- Grids

namespace {

void check(std::string_view op, const ScaleSearch& search) {
  const Index rows = search.weight_NK.rows();
  const Index columns = search.weight_NK.cols();
  expect_whole_groups(op, columns, search.group_size);
  expect_range(op, "bits", search.options.bits, 1, 8);
  expect_range(op, "min_zero", search.options.min_zero, 0, (1 << search.options.bits) - 1);
  expect_shape(op, "scales_NG", search.scales_NG, rows, columns / search.group_size);
  expect_shape(op, "offsets_NG", search.offsets_NG, rows, columns / search.group_size);
}

}  // namespace

void scale_search(const ScaleSearch& search, std::span<const float> importance_K,
                  const Exec& exec) {
  check("scale_search", search);
  if (!importance_K.empty())
    expect_length("scale_search", "importance_K", importance_K.size(), search.weight_NK.cols());
  exec.backend().kernels.scale_search(search, importance_K, exec.backend());
}

void block_scale_search(const ScaleSearch& search, MatrixView<const float> hessian_KK,
                        const Exec& exec) {
  const Index columns = search.weight_NK.cols();
  check("block_scale_search", search);
  expect_shape("block_scale_search", "hessian_KK", hessian_KK, columns, columns);
  exec.backend().kernels.block_scale_search(search, hessian_KK, exec.backend());
}

void float_scale_search(const FloatScaleSearch& search, std::span<const float> importance_K,
                        const Exec& exec) {
  constexpr std::string_view kOp = "float_scale_search";
  expect_range(kOp, "matrices", std::ssize(search.weights), 1, 1 << 20);
  const Index columns = search.weights.front().cols();
  Index rows = 0;
  for (const MatrixView<const float> weight_NK : search.weights) {
    expect_range(kOp, "columns of a matrix", weight_NK.cols(), columns, columns);
    rows += weight_NK.rows();
  }
  expect_whole_groups(kOp, columns, search.group_size);
  expect_range(kOp, "scale_rows", search.scale_rows, 1, std::max<Index>(rows, 1));
  expect_shape(kOp, "scales_NG", search.scales_NG, rows, columns / search.group_size);
  if (!importance_K.empty()) expect_length(kOp, "importance_K", importance_K.size(), columns);
  exec.backend().kernels.float_scale_search(search, importance_K, exec.backend());
}

float rounded_scale(float scale, ScalePrecision precision, float divisor) {
  return stored_scale(scale, precision, divisor);
}
float rounded_offset(float offset, ScalePrecision precision) { return stored(offset, precision); }

double refine_grid(const RefineGrid& task, const Exec& exec) {
  constexpr std::string_view kOp = "refine_grid";
  const Index rows = task.weight_NK.rows();
  const Index columns = task.weight_NK.cols();
  expect_whole_groups(kOp, columns, task.group_size);
  expect_range(kOp, "max_code", task.options.max_code, 1, 255);
  expect_shape(kOp, "hessian_KK", task.hessian_KK, columns, columns);
  expect_shape(kOp, "scales_NG", task.scales_NG, rows, columns / task.group_size);
  expect_shape(kOp, "offsets_NG", task.offsets_NG, rows, columns / task.group_size);
  expect_shape(kOp, "codes_NK", task.codes_NK, rows, columns);
  expect_floats(kOp, task.options.number, exec);
  return exec.backend().kernels.refine_grid(task, exec.backend());
}

void refine_blocks(const RefineBlocks& task, const Exec& exec) {
  constexpr std::string_view kOp = "refine_blocks";
  const Index rows = task.weight_NK.rows();
  const Index columns = task.weight_NK.cols();
  expect_range(kOp, "columns beyond the last super-block", columns % task.structure.super, 0, 0);
  if (!task.hessian_KK.empty()) expect_shape(kOp, "hessian_KK", task.hessian_KK, columns, columns);
  const Index groups = columns / task.structure.group;
  const Index supers = columns / task.structure.super;
  const ggml::Fields& fields = task.fields;
  expect_shape(kOp, "codes_NK", fields.codes_NK.view(), rows, columns);
  expect_shape(kOp, "scale_codes_NG", fields.scale_codes_NG.view(), rows, groups);
  expect_shape(kOp, "minimum_codes_NG", fields.minimum_codes_NG.view(), rows, groups);
  expect_shape(kOp, "steps_NS", fields.steps_NS.view(), rows, supers);
  expect_shape(kOp, "minimum_steps_NS", fields.minimum_steps_NS.view(), rows, supers);
  expect_length(kOp, "losses_N", task.losses_N.size(), rows);
  exec.backend().kernels.refine_blocks(task, exec.backend());
}

void round_vectors(const RoundVectors& task, const Exec& exec) {
  constexpr std::string_view kOp = "round_vectors";
  const Index rows = task.weight_NK.rows();
  const Index columns = task.weight_NK.cols();
  const ggml::VectorStructure& structure = task.structure;
  expect_range(kOp, "columns beyond the last super-block", columns % structure.super, 0, 0);
  expect_shape(kOp, "hessian_KK", task.hessian_KK, columns, columns);
  if (!task.inverse_factor_KK.empty()) {
    expect_shape(kOp, "inverse_factor_KK", task.inverse_factor_KK, columns, columns);
    expect_length(kOp, "order_E", task.order_E.size(), columns / 8);
  }
  expect_shape(kOp, "codes_NV", task.fields.codes_NV.view(), rows, columns / structure.length);
  expect_shape(kOp, "signs_NE", task.fields.signs_NE.view(), rows, columns / 8);
  expect_shape(kOp, "scale_codes_NG", task.fields.scale_codes_NG.view(), rows,
               columns / structure.group);
  expect_shape(kOp, "steps_NS", task.fields.steps_NS.view(), rows, columns / structure.super);
  expect_length(kOp, "losses_N", task.losses_N.size(), rows);
  exec.backend().kernels.round_vectors(task, exec.backend());
}

// ---- Packing

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec& exec) {
  expect_shape("pack_columns", "words_PN", words_PN, packed_words(codes_KN.rows(), bits),
               codes_KN.cols());
  exec.backend().kernels.pack_bits({PackedVectors::kColumns, codes_KN, bits, words_PN},
                                   exec.backend());
}

void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec& exec) {
  expect_shape("pack_rows", "words_RP", words_RP, codes_RC.rows(),
               packed_words(codes_RC.cols(), bits));
  exec.backend().kernels.pack_bits({PackedVectors::kRows, codes_RC, bits, words_RP},
                                   exec.backend());
}

}  // namespace calque
