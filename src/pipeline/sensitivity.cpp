#include "pipeline/sensitivity.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "calque/calib/collect.h"
#include "calque/core/stopwatch.h"
#include "calque/eval/evaluate.h"
#include "calque/forward/not_finite.h"
#include "calque/forward/token_rows.h"
#include "calque/job/passes.h"
#include "calque/quant/column_order.h"
#include "calque/quant/methods.h"

namespace calque::pipeline {
namespace {

using States = std::unique_ptr<forward::HiddenStates>;
using Costs = std::vector<std::vector<double>>;

// The original with one matrix of its own outside the blocks.
class OneReplaced : public model::WeightSource {
 public:
  OneReplaced(const model::WeightSource& original, std::string name, Matrix<float> values)
      : original_(original), name_(std::move(name)), values_(std::move(values)) {}
  bool has(std::string_view name) const override { return original_.has(name); }
  Matrix<float> load(std::string_view name) const override {
    return name == name_ ? Matrix<float>::copy_of(values_.view()) : original_.load(name);
  }
  Matrix<float> load_rows(std::string_view name, std::span<const Index> rows_U) const override {
    if (name != name_) return original_.load_rows(name, rows_U);
    Matrix<float> rows(static_cast<Index>(rows_U.size()), values_.cols());
    for (Index u = 0; u < rows.rows(); ++u)
      std::copy_n(values_.row(rows_U[static_cast<std::size_t>(u)]), rows.cols(), rows.row(u));
    return rows;
  }

 private:
  const model::WeightSource& original_;
  std::string name_;
  Matrix<float> values_;
};

// The windows on their way through the model with one part rounded.
struct Trial {
  std::size_t part = 0;
  States hidden;
  std::unique_ptr<OneReplaced> weights;  // null: the original's, but for what has run already
};

class Measuring {
 public:
  explicit Measuring(const SensitivityInputs& inputs)
      : in_(inputs),
        family_(inputs.opened.measured),
        runner_(forward::make_block_runner(
            inputs.opened.source.family.config,
            {.dtype = dtype(inputs.opened.job.runtime.forward_dtype),
             .threads = inputs.opened.job.runtime.threads,
             .device = inputs.opened.devices.forward,
             .scratch = inputs.scratch,
             .host_views = inputs.opened.devices.statistics != inputs.opened.devices.forward})),
        rounder_(inputs.opened.job.quantization.rounding->make(
            sensitivity_options(inputs.opened.job.quantization))),
        rounder_without_stats_(inputs.opened.job.quantization.rounding->make(
            inputs.opened.job.quantization.plain_options())),
        error_PO_(inputs.problem.parts.size(),
                  std::vector<double>(inputs.problem.options.size(), 0.0)),
        unseen_PO_(error_PO_) {
    for (std::size_t p = 0; p < in_.problem.parts.size(); ++p)
      for (const std::string& weight : in_.problem.parts[p].weights) part_of_.emplace(weight, p);
  }

  Costs run() {
    const auto blocks = static_cast<Index>(family_.blocks.size());
    in_.observer.phase_started(fmt::format("measure {} parts with {}", in_.problem.parts.size(),
                                           fmt::join(in_.problem.options, ", ")),
                               blocks);
    begin();
    for (const model::BlockSpec& block : family_.blocks) {
      const Stopwatch watch;
      with_context(block.name, [&] { run_block(block); });
      in_.observer.block_done(block.layer, blocks, watch.seconds());
    }
    if (!family_.lm_head.empty()) measure_head();
    return costs();
  }

 private:
  forward::ComputeDType dtype(const std::string& name) const {
    return job::forward_dtype(name, in_.opened.devices.forward);
  }
  bool has_trials() const { return in_.windows.rows() > 0; }
  const model::ModelSource& weights() const { return *in_.opened.source.weights; }

  States embed(const text::TokenBlocks& rows, const model::WeightSource& source) {
    const TimedScope timed(in_.stages.forward);
    return forward::embed_tokens(*runner_, source, family_, rows.ids_BS, rows.lengths_B);
  }

  void begin() {
    with_context("embedding", [&] {
      hidden_ = embed(in_.calibration, weights());
      if (has_trials()) original_ = embed(in_.windows, weights());
      measure_outside(family_.embedding, {});
    });
    if (trials_.empty()) return;
    for (Trial& trial : trials_) trial.hidden = embed(in_.windows, *trial.weights);
  }

  // ---- One block

  // Rounds copies of a site's readers before they run, as they are.
  class Observer : public forward::BlockObserver {
   public:
    explicit Observer(Measuring& owner, const model::BlockSpec& block)
        : owner_(owner), block_(block) {}
    void site_input(const model::SiteSpec& site, const forward::ActivationView& view) override {
      if (!owner_.is_measured(site)) return;
      const TimedScope inside(seconds_inside_);
      const TimedScope timed(owner_.in_.stages.statistics);
      if (!collector_) collector_.emplace(site.features(), owner_.in_.opened.execs.statistics);
      collector_->add(view);
    }
    void site_ready(const model::SiteSpec& site, model::BlockWeights& weights) override {
      if (!owner_.is_measured(site)) return;
      const TimedScope inside(seconds_inside_);
      quant::InputStats stats = collector_ ? collector_->finish() : quant::InputStats{};
      collector_.reset();
      owner_.require_finite(block_, site, stats);
      owner_.measure_site(site, std::move(stats), weights);
    }
    double seconds_inside() const { return seconds_inside_; }

   private:
    Measuring& owner_;
    const model::BlockSpec& block_;
    std::optional<calib::StatsCollector> collector_;
    double seconds_inside_ = 0;
  };

  bool is_measured(const model::SiteSpec& site) const {
    return std::ranges::any_of(site.readers, [&](const model::LinearSpec& linear) {
      return part_of_.count(linear.weight.name) > 0;
    });
  }

  void require_finite(const model::BlockSpec& block, const model::SiteSpec& site,
                      const quant::InputStats& stats) const {
    if (stats.nonfinite_tokens == 0) return;
    forward::throw_input_not_finite(block, site, stats.first_nonfinite_token,
                                    in_.calibration.lengths_B,
                                    dtype(in_.opened.job.runtime.forward_dtype));
  }

  void run_block(const model::BlockSpec& block) {
    model::BlockWeights weights = [&] {
      const TimedScope timed(in_.stages.load);
      return model::load_block(this->weights(), block);
    }();
    Observer observer(*this, block);
    const Stopwatch watch;
    runner_->run_block(block, weights, *hidden_, &observer);
    in_.stages.forward += watch.seconds() - observer.seconds_inside();
    if (has_trials()) run_trials(block, weights);
  }

  void run_trials(const model::BlockSpec& block, model::BlockWeights& weights) {
    const TimedScope timed(in_.stages.evaluate);
    for (Trial& trial : trials_) runner_->run_block(block, weights, *trial.hidden, nullptr);
    for (auto& [part, rounded] : smallest_) {
      exchange(weights, rounded);
      Trial trial{.part = part, .hidden = copy_of(*original_), .weights = nullptr};
      runner_->run_block(block, weights, *trial.hidden, nullptr);
      exchange(weights, rounded);
      trials_.push_back(std::move(trial));
    }
    smallest_.clear();
    runner_->run_block(block, weights, *original_, nullptr);
  }

  static void exchange(model::BlockWeights& weights, std::map<std::string, Matrix<float>>& others) {
    for (auto& [name, values] : others) {
      Matrix<float> own = weights.take(name);
      weights.put(name, std::move(values));
      values = std::move(own);
    }
  }

  States copy_of(const forward::HiddenStates& states) const {
    std::vector<std::byte> bytes;
    runner_->save_states(states, [&](std::span<const std::byte> some) {
      bytes.insert(bytes.end(), some.begin(), some.end());
    });
    std::size_t read = 0;
    return runner_->load_states(in_.windows.lengths_B, family_.embedding.shape[1],
                                [&](std::span<std::byte> some) {
                                  std::memcpy(some.data(), bytes.data() + read, some.size());
                                  read += some.size();
                                });
  }

  void measure_site(const model::SiteSpec& site, quant::InputStats stats,
                    model::BlockWeights& weights) {
    const TimedScope timed(in_.stages.quantize);
    const auto tokens = static_cast<double>(stats.tokens);
    const std::vector<Index>& order_K =
        in_.problem.plans_O.front().at(site.readers.front().weight.name).column_order;
    const quant::SiteRounder round_one =
        rounder_(quant::reordered(std::move(stats), order_K), in_.opened.execs.quantize);
    for (const model::LinearSpec& linear : site.readers) {
      const auto part = part_of_.find(linear.weight.name);
      if (part == part_of_.end()) continue;
      std::optional<Matrix<float>> smallest =
          measure(part->second, linear.weight.name, weights.at(linear.weight.name), order_K,
                  round_one, tokens);
      if (smallest) smallest_[part->second][linear.weight.name] = std::move(*smallest);
    }
  }

  // Rounds a matrix with every option and returns it with the smallest, where trials need it.
  std::optional<Matrix<float>> measure(std::size_t part, const std::string& name,
                                       MatrixView<const float> weight_NK,
                                       const std::vector<Index>& order_K,
                                       const quant::SiteRounder& round_one, double tokens) {
    std::optional<Matrix<float>> smallest;
    for (std::size_t o = 0; o < in_.problem.options.size(); ++o) {
      const formats::TensorPlan& planned = in_.problem.plans_O[o].at(name);
      if (!planned.grid) continue;  // this option leaves it as it is
      const quant::Rounded rounded =
          with_context(fmt::format("{} as {}", name, planned.stored_as), [&] {
            return round_one(quant::reordered(Matrix<float>::copy_of(weight_NK), order_K),
                             *planned.grid);
          });
      error_PO_[part][o] += rounded.report.loss * tokens;
      unseen_PO_[part][o] += rounded.report.relative_error;
      if (o == 0 && has_trials())
        smallest = quant::in_own_order(quant::dequantize(rounded.matrix), order_K);
    }
    return smallest;
  }

  // ---- Embedding and head

  // A matrix outside the blocks; without statistics it is rounded for its own squared error.
  void measure_outside(const model::TensorSpec& tensor, quant::InputStats stats) {
    const auto part = part_of_.find(tensor.name);
    if (part == part_of_.end()) return;
    const TimedScope timed(in_.stages.quantize);
    const auto tokens = static_cast<double>(stats.tokens);
    const Matrix<float> values = weights().load(tensor.name);
    model::require_finite(tensor.name, values);
    const quant::Rounder& rounder = stats.tokens > 0 ? rounder_ : rounder_without_stats_;
    const quant::SiteRounder round_one = rounder(std::move(stats), in_.opened.execs.quantize);
    auto smallest = measure(part->second, tensor.name, values, {}, round_one, tokens);
    if (!smallest) return;
    trials_.push_back(
        {.part = part->second,
         .hidden = nullptr,
         .weights = std::make_unique<OneReplaced>(weights(), tensor.name, std::move(*smallest))});
  }

  void measure_head() {
    const std::optional<model::BlockSpec> head = family_.head_block();
    const model::TensorSpec& tensor = family_.lm_head.front();
    if (part_of_.count(tensor.name) == 0) return;
    const model::SiteSpec& site = head->sites.front();
    const Matrix<float> norm_1H = weights().load(family_.final_norm.name);
    calib::StatsCollector collector(site.features(), in_.opened.execs.statistics);
    for (Index sequence = 0; sequence < hidden_->sequences(); ++sequence) {
      const TimedScope timed(in_.stages.statistics);
      const Matrix<float> inputs_TH = runner_->head_input(norm_1H, *hidden_, sequence);
      collector.add({inputs_TH.view(), {}, {}});
    }
    measure_outside(tensor, collector.finish());
    if (!trials_.empty() && trials_.back().hidden == nullptr)
      trials_.back().hidden = copy_of(*original_);
  }

  // ---- Costs

  // A part that no token reached has no error of outputs, only one of its weights.
  const std::vector<double>& errors_of(std::size_t part) const {
    return error_PO_[part].front() > 0 ? error_PO_[part] : unseen_PO_[part];
  }

  Costs costs() {
    if (!has_trials()) return std::move(error_PO_);
    const std::vector<double> divergence_P = divergences();
    Costs cost_PO = error_PO_;
    for (std::size_t p = 0; p < cost_PO.size(); ++p) {
      const std::vector<double>& error_O = errors_of(p);
      for (std::size_t o = 0; o < error_O.size(); ++o)
        cost_PO[p][o] = error_O.front() > 0 ? divergence_P[p] * error_O[o] / error_O.front() : 0;
    }
    return cost_PO;
  }

  // The linears after a part correct its error, if the job corrects upstream errors; there are none
  // after the head. Demo model, 2.5 to 3.5 bits, three texts: .71 to .86 of the divergence is left.
  double share_left(const job::SizedPart& part) const {
    constexpr double kCorrected = 0.8;
    const bool corrected =
        job::upstream_correction_for(in_.opened.job, in_.problem.plans_O.front()) > 0;
    const bool last =
        !family_.lm_head.empty() && part.weights.front() == family_.lm_head.front().name;
    return corrected && !last ? kCorrected : 1.0;
  }

  std::vector<double> divergences() {
    const TimedScope timed(in_.stages.evaluate);
    const model::ModelConfig& config = in_.opened.source.family.config;
    std::vector<eval::FinishedModel> models;
    models.push_back({{"original", &weights(), &config}, std::move(original_)});
    for (Trial& trial : trials_)
      models.push_back(
          {{in_.problem.parts[trial.part].name,
            trial.weights ? static_cast<const model::WeightSource*>(&*trial.weights) : &weights(),
            &config},
           std::move(trial.hidden)});
    const eval::EvalOptions options{.runner = {.dtype = dtype(in_.opened.job.runtime.forward_dtype),
                                               .threads = in_.opened.job.runtime.threads,
                                               .device = in_.opened.devices.forward}};
    const std::vector<eval::ModelMetrics> metrics = eval::score(models, in_.windows, options);
    std::vector<double> divergence_P(in_.problem.parts.size(), 0.0);
    for (std::size_t t = 0; t < trials_.size(); ++t)
      divergence_P[trials_[t].part] =
          metrics[t + 1].divergence.kl_typical * share_left(in_.problem.parts[trials_[t].part]);
    return divergence_P;
  }

  const SensitivityInputs& in_;
  const model::FamilySpec& family_;
  std::unique_ptr<forward::BlockRunner> runner_;
  quant::Rounder rounder_;
  // An embedding's: there refinement is quick, and gains more than elsewhere.
  quant::Rounder rounder_without_stats_;
  std::map<std::string, std::size_t> part_of_;  // by weight
  States hidden_;                               // the calibration rows
  States original_;                             // the windows; null: no trials
  std::vector<Trial> trials_;
  // Parts of the running block with the smallest option.
  std::map<std::size_t, std::map<std::string, Matrix<float>>> smallest_;
  Costs error_PO_;   // squared errors of outputs, over all tokens
  Costs unseen_PO_;  // relative squared errors of the weights
};

}  // namespace

quant::RoundingOptions sensitivity_options(const job::QuantizationSettings& settings) {
  quant::RoundingOptions options = settings.plain_options();
  options.refine_passes = 0;
  options.rounds = 1;
  return options;
}

Costs measure_sensitivities(const SensitivityInputs& inputs) { return Measuring(inputs).run(); }

}  // namespace calque::pipeline
