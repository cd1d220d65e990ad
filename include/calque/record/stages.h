#pragma once

#include <array>
#include <string>
#include <string_view>

namespace calque::record {

// Wall seconds by stage, over the whole job.
struct StageSeconds {
  double tokenize = 0;
  double load = 0;
  double forward = 0;
  double statistics = 0;
  double transform = 0;  // search for channel scales, corrections for errors upstream
  double quantize = 0;
  double write = 0;
  double evaluate = 0;
};

// The stages with their names, in order.
struct NamedStage {
  std::string_view name;
  double StageSeconds::*seconds;
};
inline constexpr std::array<NamedStage, 8> kStages = {{{"tokenize", &StageSeconds::tokenize},
                                                       {"load", &StageSeconds::load},
                                                       {"forward", &StageSeconds::forward},
                                                       {"statistics", &StageSeconds::statistics},
                                                       {"transform", &StageSeconds::transform},
                                                       {"quantize", &StageSeconds::quantize},
                                                       {"write", &StageSeconds::write},
                                                       {"evaluate", &StageSeconds::evaluate}}};

inline double sum(const StageSeconds& stages) {
  double total = 0;
  for (const NamedStage& stage : kStages) total += stages.*stage.seconds;
  return total;
}
inline StageSeconds& operator+=(StageSeconds& to, const StageSeconds& stages) {
  for (const NamedStage& stage : kStages) to.*stage.seconds += stages.*stage.seconds;
  return to;
}
inline StageSeconds difference(const StageSeconds& after, const StageSeconds& before) {
  StageSeconds result;
  for (const NamedStage& stage : kStages)
    result.*stage.seconds = after.*stage.seconds - before.*stage.seconds;
  return result;
}

// Device of each stage: "cpu", "cuda", "cuda:N". In a job also "auto" (a GPU, if this machine has
// one that provides everything the stage needs), or "" (the job's device).
struct StageDevices {
  std::string forward;
  std::string statistics;
  std::string transform;  // channel scales, corrections for errors upstream
  std::string quantize;
  std::string pack;
};

struct NamedStageDevice {
  std::string_view name;
  std::string StageDevices::*device;
};
inline constexpr std::array<NamedStageDevice, 5> kStageDevices = {
    {{"forward", &StageDevices::forward},
     {"statistics", &StageDevices::statistics},
     {"transform", &StageDevices::transform},
     {"quantize", &StageDevices::quantize},
     {"pack", &StageDevices::pack}}};

}  // namespace calque::record
