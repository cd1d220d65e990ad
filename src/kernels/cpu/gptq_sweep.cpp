#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/panel.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

// Columns that are worked on one by one between two products.
constexpr Index kStepColumns = 32;

// Row i: U[first..i][i] of i's step, so that a column is contiguous. Every block begins a step.
Matrix<float> step_columns(MatrixView<const float> factor_KK, Index block_size) {
  Matrix<float> columns_KS(factor_KK.rows(), kStepColumns);
  for (Index i = 0; i < factor_KK.rows(); ++i) {
    const Index begin = i / block_size * block_size;
    const Index first = begin + (i - begin) / kStepColumns * kStepColumns;
    for (Index k = first; k <= i; ++k) columns_KS(i, k - first) = factor_KK(k, i);
  }
  return columns_KS;
}

// The sweep over the rows [first, first + count).
class Panel {
 public:
  Panel(const GptqSweep& sweep, MatrixView<const float> columns_KS, Index first, Index count)
      : sweep_(sweep),
        columns_KS_(columns_KS),
        weight_PK_(sweep.weight_NK.rows(first, count)),
        codes_PK_(sweep.codes_NK.rows(first, count)),
        grid_(sweep.grid.scales_NG.rows(first, count), sweep.grid.offsets_NG.rows(first, count),
              sweep.grid.max_code, sweep.grid.table, sweep.grid.number),
        values_(buffer()),
        codes_(buffer()),
        errors_(buffer()),
        errors_PB_(Matrix<float>::uninitialized(count, sweep.block_size)) {}

  double run() {
    double loss = 0;
    const Index columns = weight_PK_.cols();
    for (Index begin = 0; begin < columns; begin += sweep_.block_size) {
      const Index width = std::min(sweep_.block_size, columns - begin);
      load_panel(weight_PK_.cols(begin, width), 0.0f, values_.view().rows(0, width));
      loss += sweep_block(begin, width);
      store_panel(values_.view().rows(0, width), weight_PK_.cols(begin, width));
      store_panel(codes_.view().rows(0, width), codes_PK_.cols(begin, width));
      update_rest(begin, width);
    }
    return loss;
  }

 private:
  Matrix<float> buffer() const {
    return Matrix<float>::uninitialized(sweep_.block_size, kPanelRows);
  }

  // values_: weights in, dequantized values out. In steps of a few columns, after each of which one
  // product updates the rest of the block.
  double sweep_block(Index begin, Index width) {
    double loss = 0;
    for (Index first = 0; first < width; first += kStepColumns) {
      const Index end = std::min(width, first + kStepColumns);
      loss += sweep_step(begin, first, end);
      sgemm_transposed(
          -1.0f,
          sweep_.inverse_factor_KK.rows(begin + first, end - first).cols(begin + end, width - end),
          errors_.view().rows(first, end - first), 1.0f, values_.view().rows(end, width - end));
    }
    return loss;
  }

  // The columns [first, end) of the block. The errors of earlier columns of the step are applied
  // when a column is reached, so it is loaded and stored once.
  double sweep_step(Index begin, Index first, Index end) {
    Floats squares[kStrips] = {};
    for (Index i = first; i < end; ++i) {
      const float* factor_column = columns_KS_.row(begin + i);
      const Column weight = compensated(first, i, factor_column);
      const Floats pivot = broadcast(factor_column[i - first]);
      const Index group = sweep_.grid.group_of_column_K[begin + i];
      for (int s = 0; s < kStrips; ++s) {
        const auto [code, value] = grid_.nearest(weight[s], group, s);
        const Floats error = (weight[s] - value) / pivot;
        squares[s] += error * error;
        store(codes_.row(i) + s * kLanes, code);
        store(values_.row(i) + s * kLanes, value);
        store(errors_.row(i) + s * kLanes, error);
      }
    }
    double loss = 0;
    for (const Floats& strip : squares) loss += sum(strip);
    return loss;
  }

  Column compensated(Index first, Index i, const float* factor_column) const {
    Column weight = load_column(values_.row(i));
    for (Index k = first; k < i; ++k) {
      const Floats factor = broadcast(factor_column[k - first]);
      const float* error = errors_.row(k);
      for (int s = 0; s < kStrips; ++s) weight[s] -= load(error + s * kLanes) * factor;
    }
    return weight;
  }

  void update_rest(Index begin, Index width) {
    const Index end = begin + width;
    const Index rest = weight_PK_.cols() - end;
    if (rest == 0) return;
    const MatrixView<float> errors = errors_PB_.view().cols(0, width);
    store_panel(errors_.view().rows(0, width), errors);
    sgemm(-1.0f, errors, sweep_.inverse_factor_KK.rows(begin, width).cols(end, rest), 1.0f,
          weight_PK_.cols(end, rest));
  }

  const GptqSweep& sweep_;
  MatrixView<const float> columns_KS_;
  MatrixView<float> weight_PK_;
  MatrixView<std::uint8_t> codes_PK_;
  PanelGrid grid_;
  Matrix<float> values_, codes_, errors_;  // transposed: [block_size, kPanelRows]
  Matrix<float> errors_PB_;
};

}  // namespace

double gptq_sweep(const GptqSweep& sweep, const Exec::Backend& backend) {
  const Matrix<float> columns_KS = step_columns(sweep.inverse_factor_KK, sweep.block_size);
  const Index rows = sweep.weight_NK.rows();
  const Index panels = (rows + kPanelRows - 1) / kPanelRows;
  std::vector<double> losses(static_cast<std::size_t>(panels));
  backend.workers.for_each(panels, [&](Index p) {
    const Index first = p * kPanelRows;
    const Index count = std::min(kPanelRows, rows - first);
    losses[static_cast<std::size_t>(p)] = Panel(sweep, columns_KS, first, count).run();
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace calque::cpu
