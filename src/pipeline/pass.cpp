#include "pipeline/pass.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "calque/calib/collect.h"
#include "calque/core/error.h"
#include "calque/quant/methods.h"
#include "pipeline/stopwatch.h"

namespace calque::pipeline {
namespace {

quant::Rounder make_rounder(const QuantizationSettings& settings) {
  if (settings.method == "rtn") return quant::make_rtn({.scale_rule = settings.scale_rule});
  quant::GptqOptions options;
  options.scale_rule = settings.scale_rule;
  options.act_order = settings.act_order;
  options.damp_percent = settings.damp_percent;
  options.damp_auto_increment = settings.damp_auto_increment;
  options.block_size = settings.block_size;
  options.refine_passes = static_cast<int>(settings.refine_passes);
  return quant::make_gptq(options);
}

// Rounds the readers of a site and writes them; the state that outlives one block.
class PassState {
 public:
  explicit PassState(const Pass& pass)
      : pass_(pass),
        rounder_(make_rounder(pass.job.quantization)),
        plain_(quant::make_rtn({.scale_rule = pass.job.quantization.scale_rule})) {}

  void round_site(const model::BlockSpec& block, const model::SiteSpec& site,
                  const calib::InputStats& stats, model::BlockWeights& weights) {
    double prepare_seconds = 0;
    const quant::SiteRounder round_one = [&] {
      const TimedScope timed(prepare_seconds);
      return rounder_(stats, pass_.exec);
    }();
    pass_.stages.quantize += prepare_seconds;
    for (const model::LinearSpec& linear : site.readers) {
      const auto& grid = pass_.plan.at(linear.weight.name).grid;
      if (!grid) continue;
      ModuleReport report = describe(linear.name, linear.role, *grid);
      report.block = block.layer;
      report.tokens = stats.tokens;
      report.nonfinite_tokens = stats.nonfinite_tokens;
      weights.put(linear.weight.name, round_and_write(round_one, linear.weight.name,
                                                      weights.take(linear.weight.name), report));
    }
    warn_about_nonfinite(block, site, stats);
  }

  // Tensors that no site feeds (embedding, head): rounded to nearest.
  void round_outside_blocks() {
    for (const artifact::TensorPlan& planned : pass_.plan.tensors) {
      if (!planned.grid || planned.in_block_linear) continue;
      Matrix<float> weight = load(planned.tensor.name);
      ModuleReport report = describe(planned.tensor.name, "", *planned.grid);
      report.block = -1;
      const calib::InputStats none;
      round_and_write(plain_(none, pass_.exec), planned.tensor.name, std::move(weight), report);
    }
  }

  std::vector<ModuleReport> take_modules() { return std::move(modules_); }

 private:
  static ModuleReport describe(const std::string& module, const std::string& role,
                               const quant::Grid& grid) {
    ModuleReport report;
    report.module = module;
    report.role = role;
    report.grid = grid;
    return report;
  }

  Matrix<float> load(const std::string& tensor) {
    const TimedScope timed(pass_.stages.load);
    return model::CheckpointSource(pass_.source.checkpoint).load(tensor);
  }

  // Returns the values the artifact will hold.
  Matrix<float> round_and_write(const quant::SiteRounder& round_one, const std::string& tensor,
                                Matrix<float> weight_NK, ModuleReport& report) {
    const Stopwatch watch;
    report.out_features = weight_NK.rows();
    report.in_features = weight_NK.cols();
    quant::Rounded rounded =
        with_context(tensor, [&] { return round_one(std::move(weight_NK), report.grid); });
    report.rounding = rounded.report;
    report.seconds = watch.seconds();
    pass_.stages.quantize += report.seconds;
    {
      const TimedScope timed(pass_.stages.write);
      for (const auto& writer : pass_.writers) writer->write(tensor, rounded.matrix);
    }
    finish_module(report);
    return quant::dequantize(rounded.matrix);
  }

  void finish_module(const ModuleReport& report) {
    modules_.push_back(report);
    pass_.observer.module_done(report);
    if (report.rounding.fallback_reason.empty()) return;
    ++fallbacks_;
    const std::string what = fmt::format("{}: {}", report.module, report.rounding.fallback_reason);
    if (fallbacks_ > pass_.job.quantization.fallback_max_modules)
      throw Error(ErrorKind::kNumerical, "E401",
                  fmt::format("{}. Allowed fallbacks: {}. Try more calibration text (n_samples), a "
                              "larger damp_percent, or set quantization.fallback.max_modules",
                              what, pass_.job.quantization.fallback_max_modules));
    pass_.observer.warning(what);
  }

  void warn_about_nonfinite(const model::BlockSpec& block, const model::SiteSpec& site,
                            const calib::InputStats& stats) {
    if (stats.nonfinite_tokens == 0) return;
    pass_.observer.warning(fmt::format(
        "{} {}: {} of {} calibration tokens had NaN or infinite activations and were left out",
        block.name, name_of(site.kind), stats.nonfinite_tokens,
        stats.tokens + stats.nonfinite_tokens));
  }

  const Pass& pass_;
  quant::Rounder rounder_;
  quant::Rounder plain_;
  std::vector<ModuleReport> modules_;
  Index fallbacks_ = 0;
};

// Collects statistics site by site and quantizes each site before its linears run, so that what
// follows sees the weights that ship (propagate_error); or keeps the statistics until the block has
// run with its original weights.
class QuantizingObserver : public model::BlockObserver {
 public:
  QuantizingObserver(const Pass& pass, PassState& state, const model::BlockSpec& block)
      : pass_(pass), state_(state), block_(block) {}

  void site_input(const model::SiteSpec& site, const model::ActivationView& inputs_TK) override {
    const TimedScope timed(seconds_inside_);
    const TimedScope statistics(pass_.stages.statistics);
    if (!collector_) collector_.emplace(site.features(), pass_.exec);
    collector_->add(inputs_TK);
  }

  void site_ready(const model::SiteSpec& site, model::BlockWeights& weights) override {
    const TimedScope timed(seconds_inside_);
    calib::InputStats stats = collector_ ? collector_->finish() : calib::InputStats{};
    collector_.reset();
    if (pass_.job.quantization.propagate_error)
      state_.round_site(block_, site, stats, weights);
    else
      kept_.emplace_back(&site, std::move(stats));
  }

  void round_kept(model::BlockWeights& weights) {
    for (const auto& [site, stats] : kept_) state_.round_site(block_, *site, stats, weights);
  }

  double seconds_inside() const { return seconds_inside_; }

 private:
  const Pass& pass_;
  PassState& state_;
  const model::BlockSpec& block_;
  std::optional<calib::StatsCollector> collector_;
  std::vector<std::pair<const model::SiteSpec*, calib::InputStats>> kept_;
  double seconds_inside_ = 0;
};

model::BlockWeights load(const Pass& pass, const model::BlockSpec& block) {
  const TimedScope timed(pass.stages.load);
  return model::load_block(model::CheckpointSource(pass.source.checkpoint), block);
}

std::unique_ptr<model::HiddenStates> embed(const Pass& pass) {
  const TimedScope timed(pass.stages.forward);
  const model::CheckpointSource weights(pass.source.checkpoint);
  return pass.runner->embed(pass.calibration->ids_BS, pass.calibration->lengths_B,
                            weights.load(pass.source.family.embedding.name));
}

void calibrate_and_round(const Pass& pass, PassState& state, const model::BlockSpec& block,
                         model::HiddenStates& hidden) {
  model::BlockWeights weights = load(pass, block);
  QuantizingObserver observer(pass, state, block);
  const Stopwatch watch;
  pass.runner->run_block(block, weights, hidden, &observer);
  pass.stages.forward += watch.seconds() - observer.seconds_inside();
  observer.round_kept(weights);
}

void round_without_statistics(const Pass& pass, PassState& state, const model::BlockSpec& block) {
  model::BlockWeights weights = load(pass, block);
  const calib::InputStats none;
  for (const model::SiteSpec& site : block.sites) state.round_site(block, site, none, weights);
}

}  // namespace

std::vector<ModuleReport> run_pass(const Pass& pass) {
  PassState state(pass);
  std::unique_ptr<model::HiddenStates> hidden;
  if (pass.runner) hidden = embed(pass);

  const auto blocks = static_cast<Index>(pass.source.family.blocks.size());
  for (const model::BlockSpec& block : pass.source.family.blocks) {
    const Stopwatch watch;
    with_context(block.name, [&] {
      if (hidden)
        calibrate_and_round(pass, state, block, *hidden);
      else
        round_without_statistics(pass, state, block);
    });
    pass.observer.block_done(block.layer, blocks, watch.seconds());
  }
  state.round_outside_blocks();
  return state.take_modules();
}

}  // namespace calque::pipeline
