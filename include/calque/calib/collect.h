#pragma once

#include "calque/calib/input_stats.h"
#include "calque/core/exec.h"
#include "calque/model/block_runner.h"

namespace calque::calib {

// Accumulates the statistics of one site, as the block runner delivers its rows.
class StatsCollector {
 public:
  StatsCollector(Index features, const Exec& exec);
  void add(const model::ActivationView& inputs_TK);
  InputStats finish();  // the collector is empty afterwards

 private:
  Exec exec_;
  InputStats stats_;
};

}  // namespace calque::calib
