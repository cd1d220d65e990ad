#pragma once

#include <string>

#include "calque/record/report.h"

namespace calque::record {

// Receives a job's progress. Called from one thread; every method may be ignored.
class Observer {
 public:
  virtual ~Observer() = default;
  // `title` is "calibrate and quantize (GPTQ 4 bit g128)", "evaluate", ...; step() counts up to
  // `steps`.
  virtual void phase_started(const std::string& /*title*/, Index /*steps*/) {}
  virtual void step(Index /*done*/) {}
  virtual void module_done(const record::ModuleReport& /*module*/) {}
  // Called after the last module of a block, with the block's share of the phase.
  virtual void block_done(Index /*block*/, Index /*blocks*/, double /*seconds*/) {}
  // Seconds until the whole job ends, as predicted: when it begins, and again when the first block
  // was measured.
  virtual void seconds_left(double /*seconds*/) {}
  virtual void note(const std::string& /*line*/) {}
  virtual void warning(const std::string& /*line*/) {}
};

}  // namespace calque::record
