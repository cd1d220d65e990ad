#include "pipeline/memory_meter.h"

#include <algorithm>
#include <fstream>
#include <utility>

namespace calque::pipeline {
namespace {

// VmHWM of /proc/self/status, in bytes; 0 where there is none.
std::uint64_t high_water_mark() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word)
    if (word == "VmHWM:") {
      std::uint64_t kibibytes = 0;
      status >> kibibytes;
      return kibibytes * 1024;
    }
  return 0;
}

// "5": the high-water mark becomes what is resident now (proc(5)).
bool reset_high_water_mark() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

}  // namespace

MemoryMeter::MemoryMeter() {
  read();
  resets_ = reset_high_water_mark();
}

void MemoryMeter::read() {
  std::uint64_t& peak = peaks_[stage_];
  peak = std::max(peak, high_water_mark());
}

void MemoryMeter::enter(std::string stage) {
  if (!resets_) return;
  read();
  reset_high_water_mark();
  stage_ = std::move(stage);
}

MemoryMeter::Scope::Scope(MemoryMeter& meter, std::string stage)
    : meter_(meter), before_(meter.stage_) {
  meter_.enter(std::move(stage));
}

MemoryMeter::Scope::~Scope() { meter_.enter(before_); }

std::map<std::string, std::uint64_t> MemoryMeter::stages() {
  read();
  std::map<std::string, std::uint64_t> stages = peaks_;
  stages.erase("");
  return stages;
}

std::uint64_t MemoryMeter::peak_bytes() {
  read();
  std::uint64_t peak = 0;
  for (const auto& [stage, bytes] : peaks_) peak = std::max(peak, bytes);
  return peak;
}

}  // namespace calque::pipeline
