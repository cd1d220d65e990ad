#include "pipeline/site.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/stopwatch.h"
#include "calque/job/passes.h"
#include "calque/model/fold.h"
#include "calque/quant/awq.h"
#include "calque/quant/column_order.h"
#include "calque/quant/methods.h"
#include "calque/quant/shared_scale.h"

namespace calque::pipeline {
namespace {

using Absorber = model::FoldSpec::Absorber;

record::ModuleReport describe(const std::string& module, const std::string& role,
                              const quant::Grid& grid) {
  record::ModuleReport report;
  report.module = module;
  report.role = role;
  report.grid = grid;
  return report;
}

// The energy that a strip's relative error refers to: under the inputs' statistics, or plain.
double energy_of(const quant::RoundingReport& report, double plain) {
  return report.loss > 0 && report.relative_error > 0 ? report.loss / report.relative_error : plain;
}

// The largest magnitude of a site's inputs; 0 if it was not measured.
float peak_of(const quant::InputStats& stats) {
  return stats.largest_K.empty() ? 0 : *std::ranges::max_element(stats.largest_K);
}

// Previously measured importance of the matrix's inputs (quantization.imatrix); empty without.
const quant::InputStats& importance_of(const Pass& pass, const model::TensorSpec& weight) {
  static const quant::InputStats kNone;
  const auto& importance = pass.run.opened.importance;
  return importance ? importance->stats_of(weight) : kNone;
}

// Reads strips of a matrix of the model in fp32, one after another. Rows that a GGUF file stores in
// another order are decoded all at once, because a source finds them only so.
class RowReader {
 public:
  RowReader(const formats::SourceModel& model, const model::TensorSpec& tensor)
      : source_(*model.weights), tensor_(tensor) {
    const DType dtype = source_.at(tensor.name).dtype;
    if (!is_floating(dtype))
      throw Error(ErrorKind::kInput, "E169",
                  fmt::format("tensor '{}' is {}, not floating", tensor.name, name_of(dtype)));
    if (model.is_gguf() && !tensor.same_in_gguf()) all_NK_ = source_.load(tensor.name);
  }
  Index rows() const { return tensor_.shape[0]; }
  Index columns() const { return tensor_.shape[1]; }
  Matrix<float> read(Index first, Index count) const {
    if (!all_NK_.empty()) return Matrix<float>::copy_of(all_NK_.view().rows(first, count));
    std::vector<Index> wanted(static_cast<std::size_t>(count));
    std::iota(wanted.begin(), wanted.end(), first);
    return source_.load_rows(tensor_.name, wanted);
  }

 private:
  const model::ModelSource& source_;
  const model::TensorSpec& tensor_;
  Matrix<float> all_NK_;
};

// "model.layers.0.mlp.up_proj.weight as Q4_0", in front of what is wrong with it.
std::string described(const formats::TensorPlan& planned) {
  return fmt::format("{} as {}", planned.tensor.name, planned.stored_as);
}

}  // namespace

bool rounds_by_rows(const Pass& pass) {
  return pass.runner == nullptr &&
         std::all_of(pass.plan.tensors.begin(), pass.plan.tensors.end(),
                     [](const auto& planned) { return !planned.grid || planned.grid->block; });
}

SiteRounding::SiteRounding(const Pass& pass)
    : pass_(pass),
      rounder_(pass.job().quantization.rounding->make(pass.job().quantization.rounding_options())),
      plain_(quant::kRtn.make(pass.job().quantization.plain_options())),
      unscaled_(pass.job().quantization.rounding->make(pass.job().quantization.plain_options())),
      channel_scales_(pass) {}

void SiteRounding::restore(resume::RoundingState state) {
  state_ = std::move(state);
  for (const record::ModuleReport& module : state_.modules) {
    if (module.block < 0) rounded_outside_.insert(module.module);
    if (!module.rounding.fallback_reason.empty()) ++fallbacks_;
  }
}

void SiteRounding::correct_site(const model::BlockSpec& block, const model::SiteSpec& site,
                                const quant::InputStats& stats, quant::InputShift shift,
                                model::BlockWeights& weights) {
  const TimedScope timed(pass_.run.stages.transform);
  const auto correction = correction_for(block, site, stats, std::move(shift));
  if (!correction) return;
  for (const model::LinearSpec& linear : site.readers)
    if (pass_.plan.at(linear.weight.name).grid)
      upstream_shifts_[linear.name] = quant::correct_upstream(
          *correction, weights.at(linear.weight.name), pass_.execs().transform);
}

namespace {

// src/quant/README.md, "Upstream correction".
bool sees_too_few(const model::SiteSpec& site, const quant::InputStats& stats) {
  constexpr Index kTokensPerChannel = 6;
  return site.expert >= 0 && stats.tokens < kTokensPerChannel * site.features();
}

}  // namespace

// nullopt if the inputs are the original's, and, with a warning, where there are too few tokens.
std::optional<quant::UpstreamCorrection> SiteRounding::correction_for(
    const model::BlockSpec& block, const model::SiteSpec& site, const quant::InputStats& stats,
    quant::InputShift shift) {
  if (shift.energy == 0) return std::nullopt;  // nothing before it was rounded
  if (sees_too_few(site, stats)) {
    warn_about_uncorrected(block, site, stats);
    return std::nullopt;
  }
  auto correction =
      quant::upstream_correction(stats, std::move(shift), pass_.upstream_correction(),
                                 pass_.job().quantization.options, pass_.execs().transform);
  if (correction && correction->trust > 0) return correction;
  warn_about_uncorrected(block, site, stats);
  return std::nullopt;
}

void SiteRounding::round_site(const model::BlockSpec& block, const model::SiteSpec& site,
                              quant::InputStats stats, model::BlockWeights& weights,
                              const forward::HiddenStates* hidden) {
  const std::span<const float> scales_K =
      channel_scales_.choose(block, site, stats, weights, hidden, held_);
  if (!scales_K.empty()) {
    const model::FoldSpec& fold = *block.fold_of(site);
    absorb(fold, scales_K, weights);
  }
  const Index tokens = stats.tokens;
  const float scale = shared_scale(site, stats, weights);
  if (!scales_K.empty()) stats = quant::rescaled(std::move(stats), scales_K);
  stats = quant::reordered(std::move(stats), column_order_of(site));
  const float input_peak = peak_of(stats);
  quant::SiteRounder round_one = [&] {
    const TimedScope timed(pass_.run.stages.quantize);
    return rounder_(std::move(stats), pass_.execs().quantize);
  }();
  for (const model::LinearSpec& linear : site.readers) {
    const std::string& name = linear.weight.name;
    const auto& grid = pass_.plan.at(name).grid;
    if (!grid) continue;
    record::ModuleReport report = describe(linear.name, linear.role, *grid);
    if (linear.rounded) report.grid.given_scale = scale;
    report.block = block.layer;
    report.tokens = tokens;
    report.upstream_shift = upstream_shifts_[linear.name];
    Matrix<float> weight_NK = weights.take(name);
    if (!scales_K.empty()) quant::multiply_columns(weight_NK, scales_K);
    Matrix<float> rounded_NK =
        round_and_write(round_one, name, ChannelScales::is_absorber(block, name),
                        std::move(weight_NK), report, input_peak);
    if (!scales_K.empty()) quant::divide_columns(rounded_NK, scales_K);
    weights.put(name, std::move(rounded_NK));
  }
}

// Linears that are usually left alone are not fused with the others.
float SiteRounding::shared_scale(const model::SiteSpec& site, const quant::InputStats& stats,
                                 const model::BlockWeights& weights) const {
  std::vector<MatrixView<const float>> fused;
  const quant::Grid* grid = nullptr;
  for (const model::LinearSpec& linear : site.readers) {
    const auto& planned = pass_.plan.at(linear.weight.name).grid;
    if (!planned || !planned->shares_a_number() || !linear.rounded) continue;
    fused.push_back(weights.at(linear.weight.name));
    grid = &*planned;
  }
  if (fused.empty()) return 0;
  const TimedScope timed(pass_.run.stages.quantize);
  return quant::shared_scale(fused, *grid, pass_.job().quantization.rounding_options().scale_rule,
                             stats, pass_.execs().quantize);
}

// All readers of a site take its channels in the same order.
std::span<const Index> SiteRounding::column_order_of(const model::SiteSpec& site) const {
  if (site.readers.empty()) return {};
  return pass_.plan.at(site.readers.front().weight.name).column_order;
}

// Applies the other side of a fold, once: divides the norm, or the rows of the preceding linear,
// which is already rounded, so that its codes stay and its scales are divided. Unquantized linears
// of the fold (a router) are multiplied here as well.
void SiteRounding::absorb(const model::FoldSpec& fold, std::span<const float> scales_K,
                          model::BlockWeights& weights) {
  if (std::find(absorbed_.begin(), absorbed_.end(), &fold) != absorbed_.end()) return;
  absorbed_.push_back(&fold);
  scale_unrounded(fold, scales_K, weights);
  const std::string& absorber = fold.absorber.name;
  const auto held = held_.find(absorber);
  if (held != held_.end()) {
    quant::divide_rows(held->second, divisors_of_rows(fold, scales_K, held->second.out_features()));
    write(absorber, held->second);
    held_.erase(held);
  } else {
    model::divide_absorber(fold, scales_K, changed(absorber, weights));
  }
  for (const model::TensorSpec& bias : fold.bias)
    model::divide_bias(fold, scales_K, changed(bias.name, weights));
}

void SiteRounding::scale_unrounded(const model::FoldSpec& fold, std::span<const float> scales_K,
                                   const model::BlockWeights& weights) {
  for (const model::TensorSpec& consumer : fold.consumers) {
    if (pass_.plan.at(consumer.name).grid) continue;
    quant::multiply_columns(changed(consumer.name, weights), scales_K);
  }
}

Matrix<float>& SiteRounding::changed(const std::string& tensor,
                                     const model::BlockWeights& weights) {
  const auto found = changed_.find(tensor);
  if (found != changed_.end()) return found->second;
  return changed_[tensor] = Matrix<float>::copy_of(weights.at(tensor));
}

void SiteRounding::finish_block() {
  for (const auto& [tensor, q] : held_) write(tensor, q);
  for (const auto& [tensor, values] : changed_) write_dense(tensor, values);
  held_.clear();
  changed_.clear();
  absorbed_.clear();
}

void SiteRounding::round_outside_blocks() {
  for (const formats::TensorPlan& planned : pass_.plan.tensors) {
    const std::string& name = planned.tensor.name;
    if (!planned.grid || planned.in_block_linear || rounded_outside_.count(name) > 0) continue;
    if (!planned.grid->block) {
      round_outside_blocks(planned);
      continue;
    }
    record::ModuleReport report = describe(name, "", *planned.grid);
    report.block = -1;
    round_rows(planned, unscaled_, importance_of(pass_, planned.tensor).clone(), std::move(report));
  }
}

void SiteRounding::round_head(quant::InputStats stats, std::optional<quant::InputShift> shift) {
  const std::optional<model::BlockSpec> head = pass_.family().head_block();
  const model::SiteSpec& site = head->sites.front();
  const model::LinearSpec& linear = site.readers.front();
  const formats::TensorPlan& planned = pass_.plan.at(linear.weight.name);
  record::ModuleReport report = describe(linear.weight.name, "", *planned.grid);
  report.block = -1;
  report.tokens = stats.tokens;
  report.nonfinite_tokens = stats.nonfinite_tokens;
  rounded_outside_.insert(linear.weight.name);
  std::optional<quant::UpstreamCorrection> correction;
  if (shift) {
    const TimedScope timed(pass_.run.stages.transform);
    correction = correction_for(*head, site, stats, std::move(*shift));
  }
  if (planned.grid->block)
    return round_rows(planned, unscaled_, std::move(stats), std::move(report),
                      correction ? &*correction : nullptr);
  Matrix<float> weight_VH = [&] {
    const TimedScope timed(pass_.run.stages.load);
    Matrix<float> loaded = pass_.weights().load(linear.weight.name);
    model::require_finite(linear.weight.name, loaded);
    return loaded;
  }();
  if (correction) {
    const TimedScope timed(pass_.run.stages.transform);
    report.upstream_shift =
        quant::correct_upstream(*correction, weight_VH, pass_.execs().transform);
  }
  const float input_peak = peak_of(stats);
  round_and_write(unscaled_(std::move(stats), pass_.execs().quantize), linear.weight.name, false,
                  std::move(weight_VH), report, input_peak);
}

Matrix<float> SiteRounding::round_outside_blocks(const formats::TensorPlan& planned) {
  Matrix<float> weight = [&] {
    const TimedScope timed(pass_.run.stages.load);
    Matrix<float> loaded = pass_.weights().load(planned.tensor.name);
    model::require_finite(planned.tensor.name, loaded);
    return loaded;
  }();
  record::ModuleReport report = describe(planned.tensor.name, "", *planned.grid);
  report.block = -1;
  const quant::InputStats& stats = importance_of(pass_, planned.tensor);
  const quant::Rounder& rounder = planned.grid->block ? unscaled_ : plain_;
  rounded_outside_.insert(planned.tensor.name);
  return round_and_write(rounder(stats.clone(), pass_.execs().quantize), planned.tensor.name, false,
                         std::move(weight), report);
}

// For matrices whose rows are rounded independently: works on a strip of rows at a time, so that
// memory does not grow with the matrix.
void SiteRounding::round_rows(const formats::TensorPlan& planned, const quant::Rounder& rounder,
                              quant::InputStats stats, record::ModuleReport report,
                              const quant::UpstreamCorrection* correction) {
  const std::string& tensor = planned.tensor.name;
  const Stopwatch watch;
  const RowReader reader(pass_.run.opened.source, planned.tensor);
  const std::vector<Index>& order_K = planned.column_order;
  const quant::SiteRounder round_one =
      rounder(quant::reordered(std::move(stats), order_K), pass_.execs().quantize);
  const Index strip = std::max<Index>(1, quant::kRowStripWeights / reader.columns());
  double energy = 0, error = 0, loss = 0, weights = 0, change = 0;
  for (Index first = 0; first < reader.rows(); first += strip) {
    Matrix<float> strip_NK = reader.read(first, std::min(strip, reader.rows() - first));
    model::require_finite(tensor, strip_NK, first);
    const double strip_energy = sum_of_squares(strip_NK);
    if (correction != nullptr) {
      const double shift = quant::correct_upstream(*correction, strip_NK, pass_.execs().transform);
      change += shift * shift * strip_energy;
    }
    weights += strip_energy;
    const quant::Rounded rounded = with_context(described(planned), [&] {
      return quant::counted_from(first, [&] {
        return round_one(quant::reordered(std::move(strip_NK), order_K), *planned.grid);
      });
    });
    const double compared = energy_of(rounded.report, strip_energy);
    energy += compared;
    error += rounded.report.relative_error * compared;
    loss += rounded.report.loss;
    report.rounding = rounded.report;
    write_rows(tensor, first, rounded.matrix);
  }
  state_.given.push_back(tensor);
  report.out_features = reader.rows();
  report.in_features = reader.columns();
  report.rounding.relative_error = energy > 0 ? error / energy : 0;
  report.rounding.loss = loss;
  report.upstream_shift = weights > 0 ? std::sqrt(change / weights) : 0;
  report.seconds = watch.seconds();
  pass_.run.stages.quantize += report.seconds;
  finish_module(std::move(report));
}

void SiteRounding::round_block_by_rows(const model::BlockSpec& block) {
  for (const model::SiteSpec& site : block.sites)
    for (const model::LinearSpec& linear : site.readers) {
      const formats::TensorPlan& planned = pass_.plan.at(linear.weight.name);
      if (!planned.grid) continue;
      record::ModuleReport report = describe(linear.name, linear.role, *planned.grid);
      report.block = block.layer;
      round_rows(planned, rounder_, importance_of(pass_, linear.weight).clone(), std::move(report));
    }
}

void SiteRounding::write_rows(const std::string& tensor, Index first_row,
                              const quant::QuantizedMatrix& rows) {
  for (const auto& writer : pass_.writers) writer->write_rows(tensor, first_row, rows);
}

// Rounds a matrix, passes it to the writers and returns its dequantized values.
Matrix<float> SiteRounding::round_and_write(const quant::SiteRounder& round_one,
                                            const std::string& tensor, bool hold,
                                            Matrix<float> weight_NK, record::ModuleReport& report,
                                            float input_peak) {
  const Stopwatch watch;
  report.out_features = weight_NK.rows();
  report.in_features = weight_NK.cols();
  const formats::TensorPlan& planned = pass_.plan.at(tensor);
  quant::Rounded rounded = with_context(described(planned), [&] {
    return round_one(quant::reordered(std::move(weight_NK), planned.column_order), report.grid);
  });
  rounded.matrix.input_peak = input_peak;
  report.rounding = rounded.report;
  report.seconds = watch.seconds();
  pass_.run.stages.quantize += report.seconds;
  finish_module(report);
  Matrix<float> values_NK =
      quant::in_own_order(quant::dequantize(rounded.matrix), planned.column_order);
  if (hold)
    held_[tensor] = std::move(rounded.matrix);
  else
    write(tensor, rounded.matrix);
  return values_NK;
}

void SiteRounding::write(const std::string& tensor, const quant::QuantizedMatrix& q) {
  const TimedScope timed(pass_.run.stages.write);
  for (const auto& writer : pass_.writers) writer->write(tensor, q);
  state_.given.push_back(tensor);
}

void SiteRounding::write_dense(const std::string& tensor, MatrixView<const float> values) {
  const TimedScope timed(pass_.run.stages.write);
  for (const auto& writer : pass_.writers) writer->write_dense(tensor, values);
  state_.given.push_back(tensor);
}

// One rule for all methods and grids: a matrix of a calibrated job whose inputs no token has
// reached (an idle expert's) is rounded without statistics, which is not what was asked for.
std::string_view SiteRounding::missing_statistics(const record::ModuleReport& report) const {
  const bool in_block = report.block >= 0;  // every token reaches the head; none is the embedding's
  const bool missing = in_block && report.tokens == 0 && pass_.job().quantization.needs_text();
  return missing && quant::takes_statistics(report.grid) ? "no calibration statistics" : "";
}

void SiteRounding::finish_module(record::ModuleReport report) {
  if (report.rounding.fallback_reason.empty())
    report.rounding.fallback_reason = missing_statistics(report);
  state_.modules.push_back(report);
  pass_.run.observer.module_done(report);
  if (report.rounding.fallback_reason.empty()) return;
  ++fallbacks_;
  const std::string what = fmt::format("{}: {}", report.module, report.rounding.fallback_reason);
  if (fallbacks_ > pass_.job().quantization.fallback_max_modules)
    throw Error(ErrorKind::kNumerical, "E401",
                fmt::format("{}. Allowed fallbacks: {}. Try more calibration text (n_samples), a "
                            "larger damp_percent, or set quantization.fallback.max_modules",
                            what, pass_.job().quantization.fallback_max_modules));
  pass_.run.observer.warning(what);
}

// Warns once per kind of site, because other blocks fare alike.
void SiteRounding::warn_about_uncorrected(const model::BlockSpec& block,
                                          const model::SiteSpec& site,
                                          const quant::InputStats& stats) {
  if (!state_.uncorrected.insert(site.name).second) return;
  pass_.run.observer.warning(fmt::format(
      "{} {}: errors of earlier layers are not corrected: {} calibration tokens are "
      "too few for {} channels (for others of the kind see upstream_shift in modules.csv). "
      "Try more calibration text (n_samples)",
      block.name, site.name, stats.tokens, site.features()));
}

}  // namespace calque::pipeline
