#include "pipeline/first_block.h"

#include <fmt/format.h>

#include "calque/forecast/time.h"
#include "calque/forecast/work.h"

namespace calque::pipeline {

FirstBlock::FirstBlock(record::Observer& next, const OpenedJob& opened,
                       const forecast::MachineRates& rates, const record::StageSeconds& measured,
                       forecast::TimePrediction& prediction)
    : next_(next), opened_(opened), rates_(rates), measured_(measured), prediction_(prediction) {}

void FirstBlock::start_pass(const formats::ExportPlan& plan, std::size_t exports) {
  plan_ = &plan;
  exports_ = exports;
  before_ = measured_;
}

void FirstBlock::phase_started(const std::string& title, Index steps) {
  next_.phase_started(title, steps);
}

void FirstBlock::block_done(Index block, Index blocks, double seconds) {
  next_.block_done(block, blocks, seconds);
  if (done_ || plan_ == nullptr) return;
  done_ = true;
  const double before = prediction_.seconds;
  predict(block);
  next_.note(fmt::format("predicted after the first block: {:.0f} s in total (before: {:.0f} s)",
                         prediction_.seconds, before));
  next_.seconds_left(prediction_.seconds - sum(measured_));
}

void FirstBlock::predict(Index block) {
  const job::Job& job = opened_.job;
  const model::FamilySpec& family = opened_.source.family;
  const record::StageSeconds taken = difference(measured_, before_);
  const record::StageSeconds expected = forecast::seconds_of(
      forecast::block_work(job, opened_.measured, *plan_,
                           opened_.measured.blocks[static_cast<std::size_t>(block)], exports_),
      job, rates_);
  const record::StageSeconds whole =
      forecast::seconds_of(forecast::job_work(job, family, opened_.plans), job, rates_);
  record::StageSeconds predicted = forecast::corrected(whole, expected, taken);
  if (sum(expected) > 0) predicted.evaluate *= sum(taken) / sum(expected);
  predicted.tokenize = before_.tokenize;
  prediction_ = forecast::prediction_of(predicted, "first block");
}

}  // namespace calque::pipeline
