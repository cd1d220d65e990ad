#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "calque/record/observer.h"

namespace calque::cli {

enum class ProgressMode { kTty, kPlain, kNone };

// "auto" is kTty on a terminal and kPlain elsewhere (batch logs need no carriage returns). The name
// must be valid.
ProgressMode progress_mode(const std::string& name);

// Bits and relative error of every module of a block: "[ 7/32] model.layers.6  q 4b 0.01234  k 4b
// 0.01190  9.8 s  ETA 4m05s". Modules with the same role and width share an entry with their mean
// ("w1 4b x8 0.01234", experts); '!' marks a fallback. `eta_seconds` < 0: left out.
std::string block_line(Index block, Index blocks, const std::vector<record::ModuleReport>& modules,
                       double seconds, double eta_seconds);

// The state of a whole job: "[=======>.............]  38 %  ETA 29 s  555 MiB  evaluate 3/8".
// `seconds_left` of 0 and less means that the prediction was too short: no ETA, and 99 % at most.
std::string bar_line(double seconds_gone, double seconds_left, std::uint64_t memory_bytes,
                     const std::string& doing);

// Read by Progress beside the events.
struct Gauges {
  std::function<double()> seconds;              // a steady clock
  std::function<std::uint64_t()> memory_bytes;  // resident memory of this process
};
Gauges gauges_of_this_process();

// Shows a running job on stderr. On a terminal the last line is redrawn after every module: the
// whole job's bar if the job has told how long it takes, else the module or step. Plain output has
// one line per block. Warnings always show, except with kNone.
class Progress : public record::Observer {
 public:
  // `width` is the number of terminal columns for the redrawn line.
  Progress(ProgressMode mode, std::ostream& out, int width = 80,
           Gauges gauges = gauges_of_this_process());
  ~Progress() override;

  void phase_started(const std::string& title, Index steps) override;
  void step(Index done) override;
  void module_done(const record::ModuleReport& module) override;
  void block_done(Index block, Index blocks, double seconds) override;
  void seconds_left(double seconds) override;
  void note(const std::string& line) override;
  void warning(const std::string& line) override;

 private:
  void print(const std::string& line);   // stays
  void show(const std::string& doing);   // in the bar, if there is one
  void redraw(const std::string& line);  // replaced by the next line; terminals only
  void clear_redrawn();
  double eta(Index remaining) const;

  ProgressMode mode_;
  std::ostream& out_;
  int width_;
  Gauges gauges_;
  double begin_;               // on the gauge's clock
  std::optional<double> end_;  // predicted
  bool redrawn_ = false;
  std::string phase_;
  Index steps_ = 0;
  Index quarters_ = 0;                         // quarters of the phase reported so far
  std::vector<record::ModuleReport> modules_;  // modules of the current block
  std::deque<double> last_blocks_;             // seconds
};

// Number of columns of the terminal on stderr, 80 if there is none.
int terminal_width();

}  // namespace calque::cli
