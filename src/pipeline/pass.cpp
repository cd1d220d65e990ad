#include "pipeline/pass.h"

#include <fmt/format.h>

#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "calque/calib/collect.h"
#include "calque/calib/reference_stream.h"
#include "calque/core/error.h"
#include "calque/core/stopwatch.h"
#include "calque/forward/cost.h"
#include "calque/forward/not_finite.h"
#include "calque/forward/token_rows.h"
#include "calque/job/passes.h"
#include "pipeline/site.h"

namespace calque::pipeline {
namespace {

// The sums of a site have found the rows that are not finite: none may be there.
void require_finite(const Pass& pass, const model::BlockSpec& block, const model::SiteSpec& site,
                    const quant::InputStats& stats) {
  if (stats.nonfinite_tokens == 0) return;
  forward::throw_input_not_finite(
      block, site, stats.first_nonfinite_token, pass.run.calibration.lengths_B,
      job::forward_dtype(pass.job().runtime.forward_dtype, pass.run.opened.devices.forward));
}

// Measures site by site. With propagate_error, rounds each site before its linears run, so that
// later sites see the shipped weights; otherwise keeps the statistics until the block has run with
// its original weights.
class QuantizingObserver : public forward::BlockObserver {
 public:
  QuantizingObserver(const Pass& pass, SiteRounding& rounding, const model::BlockSpec& block,
                     const forward::HiddenStates& hidden, calib::ReferenceStream* reference,
                     bool wants_output)
      : pass_(pass),
        rounding_(rounding),
        block_(block),
        hidden_(hidden),
        reference_(reference),
        wants_output_(wants_output) {
    forget_trials();
  }

  void site_input(const model::SiteSpec& site, const forward::ActivationView& inputs_TK) override {
    // Only channel scales use an input without a rounded reader (a router's).
    if (site.readers.empty() && !pass_.job().quantization.transform->rescales_channels()) return;
    const TimedScope timed(seconds_inside_);
    const TimedScope statistics(pass_.run.stages.statistics);
    const MemoryMeter::Scope memory(pass_.run.memory, "statistics");
    if (!collector_)
      collector_.emplace(site.features(), pass_.execs().statistics,
                         job::needs_input_peaks(pass_.job(), pass_.plan));
    collector_->add(inputs_TK);
    if (reference_ != nullptr) reference_->compare(site, inputs_TK);
  }

  void site_ready(const model::SiteSpec& site, model::BlockWeights& weights) override {
    const TimedScope timed(seconds_inside_);
    const MemoryMeter::Scope memory(pass_.run.memory, "quantize");
    take_kv_peaks();
    quant::InputStats stats = collector_ ? collector_->finish() : quant::InputStats{};
    collector_.reset();
    require_finite(pass_, block_, site, stats);
    if (pass_.recorder) pass_.recorder->add(block_, site, stats);
    if (reference_ != nullptr)
      if (auto shift = reference_->take(site))
        rounding_.correct_site(block_, site, stats, std::move(*shift), weights);
    if (pass_.job().quantization.propagate_error)
      rounding_.round_site(block_, site, std::move(stats), weights, &hidden_);
    else
      kept_.emplace_back(&site, std::move(stats));
    forget_trials();
  }

  // The largest keys and values of the block; empty if it has none.
  const KvNumbers& kv_peaks() const { return kv_peaks_; }

  void round_kept(model::BlockWeights& weights) {
    if (pass_.statistics) {
      const TimedScope timed(pass_.run.stages.write);
      pass_.statistics->save(block_, kept_);
    }
    const MemoryMeter::Scope memory(pass_.run.memory, "quantize");
    for (auto& [site, stats] : kept_)
      rounding_.round_site(block_, *site, std::move(stats), weights, nullptr);
  }

  bool wants_output() const override { return wants_output_; }

  double seconds_inside() const { return seconds_inside_; }

 private:
  const Pass& pass_;
  SiteRounding& rounding_;
  const model::BlockSpec& block_;
  const forward::HiddenStates& hidden_;
  calib::ReferenceStream* reference_;  // null: no correction of upstream errors
  bool wants_output_;
  // Attention runs between two sites of its block, once.
  void take_kv_peaks() {
    if (pass_.kv_peaks == nullptr) return;
    KvNumbers seen = pass_.kv_peaks->take();
    if (!seen.empty()) kv_peaks_ = std::move(seen);
  }
  // The original model, and the trials of channel scales, run through the same runner.
  void forget_trials() const {
    if (pass_.kv_peaks != nullptr) pass_.kv_peaks->take();
  }

  KvNumbers kv_peaks_;
  std::optional<calib::StatsCollector> collector_;
  std::vector<std::pair<const model::SiteSpec*, quant::InputStats>> kept_;
  double seconds_inside_ = 0;
};

// Runs a pass from block to block.
class PassRun {
 public:
  explicit PassRun(const Pass& pass)
      : pass_(pass), rounding_(pass), head_(pass.family().head_block()) {}

  std::vector<record::ModuleReport> run() {
    const MemoryMeter::Scope memory(pass_.run.memory, pass_.runner ? "forward" : "quantize");
    const resume::PassProgress before = take_up();
    if (before.complete) return rounding_.state().modules;
    if (before.blocks == 0 && pass_.runner != nullptr) begin_streams();
    for (const model::BlockSpec& block : pass_.family().blocks)
      if (block.layer >= before.blocks) do_block(block);
    if (head_) with_context(head_->name, [&] { do_head(); });
    hidden_.reset();
    reference_.reset();
    const MemoryMeter::Scope write(pass_.run.memory, "write");
    rounding_.round_outside_blocks();
    if (folder() != nullptr && folder()->is_end_due(bytes_to_save(true), !pass_.is_last))
      save(block_count(), true);
    return rounding_.state().modules;
  }

 private:
  Index block_count() const { return static_cast<Index>(pass_.family().blocks.size()); }
  resume::RunFolder* folder() const { return pass_.run.folder; }
  record::StageSeconds& stages() const { return pass_.run.stages; }

  void do_block(const model::BlockSpec& block) {
    const Stopwatch watch;
    prefetch(static_cast<std::size_t>(block.layer) + 1);
    with_context(block.name, [&] {
      if (hidden_)
        measure_and_round(block);
      else if (pass_.statistics)
        round_with_shared_statistics(block);
      else if (rounds_by_rows(pass_))
        rounding_.round_block_by_rows(block);
      else
        round_without_statistics(block);
      rounding_.finish_block();
    });
    pass_.run.observer.block_done(block.layer, block_count(), watch.seconds());
    if (block.layer + 1 < block_count()) save_if_due(block.layer + 1);
  }

  // Reads the block's weights from disk while the previous block runs.
  void prefetch(std::size_t block) const {
    const std::vector<model::BlockSpec>& blocks = pass_.family().blocks;
    if (block >= blocks.size()) return;
    for (const model::TensorSpec& tensor : blocks[block].tensors())
      pass_.weights().prefetch(tensor.name);
  }

  model::BlockWeights load(const model::BlockSpec& block) const {
    const TimedScope timed(stages().load);
    return model::load_block(pass_.weights(), block);
  }

  void measure_and_round(const model::BlockSpec& block) {
    calib::ReferenceStream* const reference = reference_ ? &*reference_ : nullptr;
    model::BlockWeights weights = load(block);
    if (reference != nullptr) reference->run_block(block, weights);
    QuantizingObserver observer(pass_, rounding_, block, *hidden_, reference,
                                !pass_.family().is_last(block) || measures_head());
    const Stopwatch watch;
    pass_.runner->run_block(block, weights, *hidden_, &observer);
    stages().forward += watch.seconds() - observer.seconds_inside();
    observer.round_kept(weights);
    if (!observer.kv_peaks().empty())
      for (const auto& writer : pass_.writers)
        writer->write_kv_peaks(block.layer, observer.kv_peaks());
  }

  // Rounds with statistics that another job has measured, one site at a time. Nothing runs.
  void round_with_shared_statistics(const model::BlockSpec& block) {
    model::BlockWeights weights = load(block);
    for (const model::SiteSpec* site : pass_.statistics->sites(block)) {
      quant::InputStats stats = [&] {
        const TimedScope timed(stages().load);
        return pass_.statistics->load(block, *site);
      }();
      if (pass_.recorder) pass_.recorder->add(block, *site, stats);
      rounding_.round_site(block, *site, std::move(stats), weights, nullptr);
    }
  }

  bool rounds_head() const {
    return head_ && pass_.plan.at(pass_.family().head().name).grid.has_value();
  }

  // Jobs that share statistics find the head's there, whether the first of them rounds it or not.
  bool measures_head() const {
    return pass_.runner != nullptr && head_ && (rounds_head() || pass_.statistics != nullptr);
  }

  void do_head() {
    if (measures_head())
      measure_and_round_head();
    else if (rounds_head() && pass_.statistics != nullptr)
      rounding_.round_head(pass_.statistics->load(*head_, head_->sites.front()), std::nullopt);
  }

  void measure_and_round_head() {
    const model::SiteSpec& site = head_->sites.front();
    const Matrix<float> norm_1H = pass_.weights().load(pass_.family().final_norm.name);
    model::require_finite(pass_.family().final_norm.name, norm_1H);
    if (reference_) reference_->run_head(*head_, norm_1H);
    calib::StatsCollector collector(site.features(), pass_.execs().statistics,
                                    job::needs_input_peaks(pass_.job(), pass_.plan));
    for (Index sequence = 0; sequence < hidden_->sequences(); ++sequence) {
      const Matrix<float> inputs_TH = [&] {
        const TimedScope timed(stages().forward);
        return pass_.runner->head_input(norm_1H, *hidden_, sequence);
      }();
      const TimedScope timed(stages().statistics);
      const forward::ActivationView view{inputs_TH.view(), {}, {}};
      collector.add(view);
      if (reference_) reference_->compare(site, view);
    }
    resume::StatisticsStore::Seen seen;
    seen.emplace_back(&site, collector.finish());
    require_finite(pass_, *head_, site, seen.front().second);
    if (pass_.statistics != nullptr) {
      const TimedScope timed(stages().write);
      pass_.statistics->save(*head_, seen);
    }
    auto shift = reference_ ? reference_->take(site) : std::nullopt;
    hidden_.reset();
    reference_.reset();
    const MemoryMeter::Scope memory(pass_.run.memory, "quantize");
    if (rounds_head()) rounding_.round_head(std::move(seen.front().second), std::move(shift));
  }

  void round_without_statistics(const model::BlockSpec& block) {
    model::BlockWeights weights = load(block);
    for (const model::SiteSpec& site : block.sites)
      rounding_.round_site(block, site, {}, weights, nullptr);
  }

  // ---- The calibration text going through the models

  void begin_streams() {
    hidden_ = with_context("embedding", [&] { return embed(); });
    if (pass_.upstream_correction() > 0) reference_.emplace(reference_inputs());
  }

  // If the original model runs as well, the embedding is rounded first: the blocks can then
  // compensate its error, too.
  std::unique_ptr<forward::HiddenStates> embed() {
    const std::string& name = pass_.family().embedding.name;
    const text::TokenBlocks& rows = pass_.run.calibration;
    if (pass_.upstream_correction() > 0 && pass_.plan.at(name).grid) {
      const Matrix<float> rounded_VH = rounding_.round_outside_blocks(pass_.plan.at(name));
      const TimedScope timed(stages().forward);
      std::vector<Index> all(static_cast<std::size_t>(rounded_VH.rows()));
      std::iota(all.begin(), all.end(), Index{0});
      return forward::embed_rows(*pass_.runner, pass_.weights(), pass_.family(), all, rounded_VH,
                                 rows.ids_BS, rows.lengths_B);
    }
    const TimedScope timed(stages().forward);
    return forward::embed_tokens(*pass_.runner, pass_.weights(), pass_.family(), rows.ids_BS,
                                 rows.lengths_B);
  }

  calib::ReferenceStream::Inputs reference_inputs() const {
    return {.runner = *pass_.runner,
            .weights = pass_.weights(),
            .family = pass_.family(),
            .calibration = pass_.run.calibration,
            .plan = pass_.plan,
            .statistics = pass_.execs().statistics,
            .scratch = pass_.run.scratch,
            .forward_seconds = stages().forward};
  }

  // ---- State that a pass carries from block to block, saved and restored

  // All of that state except the rounding's (resume::RoundingState, in the journal). Anything else
  // that outlives a block must be registered here, and only here.
  std::vector<resume::StatePart> parts() {
    const Index width = pass_.family().embedding.shape[1];
    const auto bytes =
        static_cast<std::uint64_t>(pass_.run.calibration.token_count() *
                                   (width + forward::kept_channels(pass_.family()))) *
        sizeof(float);
    std::vector<resume::StatePart> parts;
    if (pass_.runner != nullptr)
      parts.push_back({"hidden states", bytes,
                       [this](const auto& sink) { pass_.runner->save_states(*hidden_, sink); },
                       [this, width](const auto& source) {
                         hidden_ = pass_.runner->load_states(pass_.run.calibration.lengths_B, width,
                                                             source);
                       }});
    if (pass_.runner != nullptr && pass_.upstream_correction() > 0)
      parts.push_back(
          {"the original's hidden states", bytes,
           [this](const auto& sink) { reference_->save(sink); },
           [this](const auto& source) { reference_.emplace(reference_inputs(), source); }});
    if (pass_.recorder != nullptr) parts.push_back(importance_part());
    return parts;
  }

  resume::StatePart importance_part() const {
    return {"importance", 0, [this](const auto& sink) { pass_.recorder->save(sink); },
            [this](const auto& source) { pass_.recorder->load(source); }};
  }

  // A complete pass keeps only its measured importance.
  std::vector<resume::StatePart> parts(bool complete) {
    if (!complete) return parts();
    return pass_.recorder != nullptr ? std::vector{importance_part()}
                                     : std::vector<resume::StatePart>{};
  }

  std::uint64_t bytes_to_save(bool complete) {
    std::uint64_t bytes = 0;
    for (const resume::StatePart& part : parts(complete)) bytes += part.bytes;
    return bytes + bytes_given() * pass_.writers.size();
  }

  // Bytes of the tensors given to the writers since the last save.
  std::uint64_t bytes_given() const {
    const std::vector<std::string>& given = rounding_.state().given;
    std::uint64_t bytes = 0;
    for (std::size_t i = folder()->pass(pass_.number).rounding.given.size(); i < given.size(); ++i)
      bytes += pass_.plan.at(given[i]).bytes;
    return bytes;
  }

  void save_if_due(Index blocks) {
    if (folder() != nullptr && folder()->is_due(bytes_to_save(false))) save(blocks, false);
  }

  void save(Index blocks, bool complete) {
    const TimedScope timed(stages().write);
    const Stopwatch watch;
    const std::uint64_t bytes = bytes_to_save(complete);
    resume::PassProgress now{.blocks = blocks, .complete = complete, .rounding = rounding_.state()};
    now.streams = folder()->write_parts(
        fmt::format("pass-{}-blocks-{}.bin", pass_.number, complete ? -1 : blocks),
        parts(complete));
    for (const auto& writer : pass_.writers) now.notes.push_back(writer->keep());
    folder()->save(pass_.number, std::move(now), bytes, watch.seconds());
  }

  // Restores the progress that an earlier process made in this pass.
  resume::PassProgress take_up() {
    if (folder() == nullptr || folder()->pass(pass_.number).blocks == 0) return {};
    const TimedScope timed(stages().load);
    const resume::PassProgress before = folder()->pass(pass_.number);
    resume::RoundingState state = before.rounding;
    state.modules = with_grids(std::move(state.modules), pass_.family(), pass_.plan);
    rounding_.restore(std::move(state));
    if (!before.streams.empty()) folder()->read_parts(before.streams, parts(before.complete));
    return before;
  }

  const Pass& pass_;
  SiteRounding rounding_;
  std::optional<model::BlockSpec> head_;
  std::unique_ptr<forward::HiddenStates> hidden_;  // null: nothing runs
  std::optional<calib::ReferenceStream> reference_;
};

}  // namespace

double Pass::upstream_correction() const { return job::upstream_correction_for(job(), plan); }

// Statistics on another device than the runner's, comparisons with the original, and the inputs'
// peaks need host views.
std::unique_ptr<forward::BlockRunner> runner_for(const OpenedJob& opened,
                                                 const formats::ExportPlan& plan,
                                                 std::shared_ptr<io::ScratchSpace> scratch,
                                                 std::shared_ptr<const calib::KvPeaks> kv_peaks) {
  const job::Job& job = opened.job;
  const job::StageDevices& devices = opened.devices;
  return forward::make_block_runner(
      opened.source.family.config,
      {.dtype = job::forward_dtype(job.runtime.forward_dtype, devices.forward),
       .threads = job.runtime.threads,
       .device = devices.forward,
       .scratch = std::move(scratch),
       .host_views = devices.statistics != devices.forward ||
                     job::upstream_correction_for(job, plan) > 0 ||
                     job::needs_input_peaks(job, plan),
       .kv_cache = std::move(kv_peaks)});
}

std::vector<record::ModuleReport> run_pass(const Pass& pass) { return PassRun(pass).run(); }

// Modules in blocks are named after their linear, others after their tensor.
std::vector<record::ModuleReport> with_grids(std::vector<record::ModuleReport> modules,
                                             const model::FamilySpec& family,
                                             const formats::ExportPlan& plan) {
  std::map<std::string, std::string> tensors;
  for (const model::LinearSpec& linear : family.linears())
    tensors[linear.name] = linear.weight.name;
  for (record::ModuleReport& module : modules) {
    const auto found = tensors.find(module.module);
    const bool in_block = module.block >= 0 && found != tensors.end();
    module.grid = *plan.at(in_block ? found->second : module.module).grid;
  }
  return modules;
}

}  // namespace calque::pipeline
