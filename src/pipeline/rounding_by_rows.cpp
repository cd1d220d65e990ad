// Matrices whose rows are rounded by themselves, a strip of rows at a time: what is in memory does
// not grow with the matrix.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "calque/core/error.h"
#include "pipeline/site_rounding.h"
#include "pipeline/stopwatch.h"

namespace calque::pipeline {
namespace {

constexpr Index kStripWeights = 1 << 19;  // 2 MiB of fp32

// Strips of a matrix of the model, widened one after another.
class RowReader {
 public:
  RowReader(const model::ModelSource& source, const std::string& tensor)
      : source_(source.at(tensor)), bytes_(source.bytes(tensor)) {
    if (!is_floating(source_.dtype))
      throw Error(ErrorKind::kInput, "",
                  fmt::format("tensor '{}' is {}, not floating", tensor, name_of(source_.dtype)));
  }
  Index rows() const { return source_.shape[0]; }
  Index columns() const { return source_.shape[1]; }
  Matrix<float> read(Index first, Index count) const {
    auto strip_NK = Matrix<float>::uninitialized(count, columns());
    const std::size_t row_bytes = static_cast<std::size_t>(columns()) * size_of(source_.dtype);
    const std::size_t begin = static_cast<std::size_t>(first) * row_bytes;
    convert_to_float(bytes_.get().data() + begin, source_.dtype,
                     static_cast<std::size_t>(strip_NK.size()), strip_NK.data());
    bytes_.drop(begin, static_cast<std::size_t>(count) * row_bytes);
    return strip_NK;
  }

 private:
  const model::SourceTensor& source_;
  model::TensorBytes bytes_;
};

}  // namespace

bool rounds_by_rows(const Pass& pass) {
  return pass.runner == nullptr &&
         std::all_of(pass.plan.tensors.begin(), pass.plan.tensors.end(),
                     [](const auto& planned) { return !planned.grid || planned.grid->block; });
}

void SiteRounding::round_rows(const formats::TensorPlan& planned, const quant::Rounder& rounder,
                              const quant::InputStats& stats, record::ModuleReport report) {
  const std::string& tensor = planned.tensor.name;
  const Stopwatch watch;
  const RowReader reader(*pass_.source.weights, tensor);
  const quant::SiteRounder round_one = rounder(stats.clone(), pass_.execs.quantize);
  const Index strip = std::max<Index>(1, kStripWeights / reader.columns());
  double energy = 0, error = 0;
  for (Index first = 0; first < reader.rows(); first += strip) {
    Matrix<float> strip_NK = reader.read(first, std::min(strip, reader.rows() - first));
    const double strip_energy = sum_of_squares(strip_NK);
    const quant::Rounded rounded = with_context(fmt::format("{}, from row {}", tensor, first), [&] {
      return round_one(std::move(strip_NK), *planned.grid);
    });
    energy += strip_energy;
    error += rounded.report.relative_error * strip_energy;
    report.rounding = rounded.report;
    write_rows(tensor, first, rounded.matrix);
  }
  state_.given.push_back(tensor);
  report.out_features = reader.rows();
  report.in_features = reader.columns();
  report.rounding.relative_error = energy > 0 ? error / energy : 0;
  report.seconds = watch.seconds();
  pass_.stages.quantize += report.seconds;
  finish_module(report);
}

void SiteRounding::round_block_by_rows(const model::BlockSpec& block) {
  const quant::InputStats none;
  for (const model::SiteSpec& site : block.sites)
    for (const model::LinearSpec& linear : site.readers) {
      const formats::TensorPlan& planned = pass_.plan.at(linear.weight.name);
      if (!planned.grid) continue;
      record::ModuleReport report = describe(linear.name, linear.role, *planned.grid);
      report.block = block.layer;
      const quant::InputStats& stats =
          pass_.importance ? pass_.importance->stats_of(linear.weight) : none;
      round_rows(planned, rounder_, stats, std::move(report));
    }
}

void SiteRounding::write_rows(const std::string& tensor, Index first_row,
                              const quant::QuantizedMatrix& rows) {
  for (const auto& writer : pass_.writers) writer->write_rows(tensor, first_row, rows);
}

}  // namespace calque::pipeline
