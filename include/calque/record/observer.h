#pragma once

#include <string>

#include "calque/record/report.h"

namespace calque::record {

// What a job tells while it runs. Called from one thread; every method may be ignored.
class Observer {
 public:
  virtual ~Observer() = default;
  // "calibrate and quantize (GPTQ 4 bit g128)", "evaluate", ...; `steps` is what step() will count
  // to.
  virtual void phase_started(const std::string& /*title*/, Index /*steps*/) {}
  virtual void step(Index /*done*/) {}
  virtual void module_done(const record::ModuleReport& /*module*/) {}
  // After the last module of a block, with its share of the phase.
  virtual void block_done(Index /*block*/, Index /*blocks*/, double /*seconds*/) {}
  virtual void note(const std::string& /*line*/) {}
  virtual void warning(const std::string& /*line*/) {}
};

}  // namespace calque::record
