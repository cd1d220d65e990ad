#include "pipeline/pass.h"

#include <utility>

#include "calque/calib/collect.h"
#include "calque/core/error.h"
#include "calque/forward/token_rows.h"
#include "pipeline/pass_saving.h"
#include "calib/reference_stream.h"
#include "pipeline/site_rounding.h"
#include "pipeline/stopwatch.h"

namespace calque::pipeline {
namespace {

// Collects statistics site by site and quantizes each site before its linears run, so that what
// follows sees the weights that ship (propagate_error); or keeps the statistics until the block has
// run with its original weights.
class QuantizingObserver : public forward::BlockObserver {
 public:
  QuantizingObserver(const Pass& pass, SiteRounding& rounding, const model::BlockSpec& block,
                     const forward::HiddenStates& hidden, calib::ReferenceStream* reference)
      : pass_(pass), rounding_(rounding), block_(block), hidden_(hidden), reference_(reference) {}

  void site_input(const model::SiteSpec& site, const forward::ActivationView& inputs_TK) override {
    // Only channel scales look at an input that nothing rounded reads (a router's).
    if (site.readers.empty() && !pass_.job.quantization.transform->rescales_channels()) return;
    const TimedScope timed(seconds_inside_);
    const TimedScope statistics(pass_.stages.statistics);
    const MemoryMeter::Scope memory(pass_.memory, "statistics");
    if (!collector_) collector_.emplace(site.features(), pass_.execs.statistics);
    collector_->add(inputs_TK);
    if (reference_ != nullptr) reference_->compare(site, inputs_TK);
  }

  void site_ready(const model::SiteSpec& site, model::BlockWeights& weights) override {
    const TimedScope timed(seconds_inside_);
    const MemoryMeter::Scope memory(pass_.memory, "quantize");
    quant::InputStats stats = collector_ ? collector_->finish() : quant::InputStats{};
    collector_.reset();
    if (pass_.recorder) pass_.recorder->add(block_, site, stats);
    if (reference_ != nullptr)
      if (auto shift = reference_->take(site))
        rounding_.correct_site(block_, site, stats, std::move(*shift), weights);
    if (pass_.job.quantization.propagate_error)
      rounding_.round_site(block_, site, std::move(stats), weights, &hidden_);
    else
      kept_.emplace_back(&site, std::move(stats));
  }

  void round_kept(model::BlockWeights& weights) {
    if (pass_.statistics) {
      const TimedScope timed(pass_.stages.write);
      pass_.statistics->save(block_, kept_);
    }
    const MemoryMeter::Scope memory(pass_.memory, "quantize");
    for (auto& [site, stats] : kept_)
      rounding_.round_site(block_, *site, std::move(stats), weights, nullptr);
  }

  bool wants_output() const override { return !pass_.source.family.is_last(block_); }

  double seconds_inside() const { return seconds_inside_; }

 private:
  const Pass& pass_;
  SiteRounding& rounding_;
  const model::BlockSpec& block_;
  const forward::HiddenStates& hidden_;
  calib::ReferenceStream* reference_;  // null: what rounding did upstream is left as it is
  std::optional<calib::StatsCollector> collector_;
  std::vector<std::pair<const model::SiteSpec*, quant::InputStats>> kept_;
  double seconds_inside_ = 0;
};

model::BlockWeights load(const Pass& pass, const model::BlockSpec& block) {
  const TimedScope timed(pass.stages.load);
  return model::load_block(*pass.source.weights, block);
}

// The embedding is rounded first where the original model runs beside: the blocks can make up for
// its error, too.
std::unique_ptr<forward::HiddenStates> embed(const Pass& pass, SiteRounding& rounding) {
  const std::string& name = pass.source.family.embedding.name;
  const text::TokenBlocks& rows = *pass.calibration;
  if (pass.upstream_correction > 0 && pass.plan.at(name).grid) {
    const Matrix<float> rounded_VH = rounding.round_outside_blocks(pass.plan.at(name));
    const TimedScope timed(pass.stages.forward);
    return pass.runner->embed(rows.ids_BS, rows.lengths_B, rounded_VH);
  }
  const TimedScope timed(pass.stages.forward);
  return forward::embed_tokens(*pass.runner, *pass.source.weights, pass.source.family.embedding,
                             rows.ids_BS, rows.lengths_B);
}

void begin(const Pass& pass, SiteRounding& rounding, Streams& streams) {
  if (pass.runner == nullptr) return;
  streams.hidden = with_context("embedding", [&] { return embed(pass, rounding); });
  if (pass.upstream_correction > 0) streams.reference.emplace(pass);
}

void calibrate_and_round(const Pass& pass, SiteRounding& rounding, const model::BlockSpec& block,
                         Streams& streams) {
  forward::HiddenStates& hidden = *streams.hidden;
  calib::ReferenceStream* const reference = streams.reference ? &*streams.reference : nullptr;
  model::BlockWeights weights = load(pass, block);
  if (reference != nullptr) reference->run_block(block, weights);
  QuantizingObserver observer(pass, rounding, block, hidden, reference);
  const Stopwatch watch;
  pass.runner->run_block(block, weights, hidden, &observer);
  pass.stages.forward += watch.seconds() - observer.seconds_inside();
  observer.round_kept(weights);
}

// What another job has measured, one site at a time: nothing runs.
void round_with_shared_statistics(const Pass& pass, SiteRounding& rounding,
                                  const model::BlockSpec& block) {
  model::BlockWeights weights = load(pass, block);
  for (const model::SiteSpec* site : pass.statistics->sites(block)) {
    quant::InputStats stats = [&] {
      const TimedScope timed(pass.stages.load);
      return pass.statistics->load(block, *site);
    }();
    if (pass.recorder) pass.recorder->add(block, *site, stats);
    rounding.round_site(block, *site, std::move(stats), weights, nullptr);
  }
}

void round_without_statistics(const Pass& pass, SiteRounding& rounding,
                              const model::BlockSpec& block) {
  model::BlockWeights weights = load(pass, block);
  for (const model::SiteSpec& site : block.sites)
    rounding.round_site(block, site, {}, weights, nullptr);
}

// Its weights come from disk while the block before it runs.
void prefetch(const Pass& pass, std::size_t block) {
  const std::vector<model::BlockSpec>& blocks = pass.source.family.blocks;
  if (block >= blocks.size()) return;
  for (const model::TensorSpec& tensor : blocks[block].tensors())
    pass.source.weights->prefetch(tensor.name);
}

}  // namespace

std::vector<record::ModuleReport> run_pass(const Pass& pass) {
  const MemoryMeter::Scope memory(pass.memory, pass.runner ? "forward" : "quantize");
  SiteRounding rounding(pass);
  Streams streams;
  const ResumedPass resumed = resume_pass(pass, rounding, streams);
  if (resumed.complete) return rounding.state().modules;
  if (resumed.blocks == 0) begin(pass, rounding, streams);

  const auto blocks = static_cast<Index>(pass.source.family.blocks.size());
  for (const model::BlockSpec& block : pass.source.family.blocks) {
    if (block.layer < resumed.blocks) continue;
    const Stopwatch watch;
    prefetch(pass, static_cast<std::size_t>(block.layer) + 1);
    with_context(block.name, [&] {
      if (streams.hidden)
        calibrate_and_round(pass, rounding, block, streams);
      else if (pass.statistics)
        round_with_shared_statistics(pass, rounding, block);
      else if (rounds_by_rows(pass))
        rounding.round_block_by_rows(block);
      else
        round_without_statistics(pass, rounding, block);
      rounding.finish_block();
    });
    pass.observer.block_done(block.layer, blocks, watch.seconds());
    if (block.layer + 1 < blocks) save_if_due(pass, rounding, streams, block.layer + 1);
  }
  streams.hidden.reset();
  streams.reference.reset();
  const MemoryMeter::Scope write(pass.memory, "write");
  rounding.round_outside_blocks();
  save_complete(pass, rounding);
  return rounding.state().modules;
}

}  // namespace calque::pipeline
