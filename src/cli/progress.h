#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "calque/record/observer.h"

namespace calque::cli {

enum class ProgressMode { kTty, kPlain, kNone };

// "auto" is kTty on a terminal and kPlain elsewhere (batch logs: no carriage returns). The name has
// been checked.
ProgressMode progress_mode(const std::string& name);

// "[ 7/32] model.layers.6  q 4b 0.01234  k 4b 0.01190  9.8 s  ETA 4m05s": bits and relative error
// of every module, the mean where several share role and width ("w1 4b x8 0.01234", experts); '!'
// where one fell back. `eta_seconds` < 0: left out.
std::string block_line(Index block, Index blocks, const std::vector<record::ModuleReport>& modules,
                       double seconds, double eta_seconds);

// Shows a running job, on stderr. On a terminal the last line is redrawn with every module; plain
// output is one line a block. Warnings always show, but for kNone.
class Progress : public record::Observer {
 public:
  // `width`: columns of the terminal, for the redrawn line.
  Progress(ProgressMode mode, std::ostream& out, int width = 80);
  ~Progress() override;

  void phase_started(const std::string& title, Index steps) override;
  void step(Index done) override;
  void module_done(const record::ModuleReport& module) override;
  void block_done(Index block, Index blocks, double seconds) override;
  void note(const std::string& line) override;
  void warning(const std::string& line) override;

 private:
  void print(const std::string& line);   // stays
  void redraw(const std::string& line);  // is replaced by the next; terminals only
  void clear_redrawn();
  double eta(Index remaining) const;

  ProgressMode mode_;
  std::ostream& out_;
  int width_;
  bool redrawn_ = false;
  std::string phase_;
  Index steps_ = 0;
  Index quarters_ = 0;                         // of the phase that have been reported
  std::vector<record::ModuleReport> modules_;  // of the current block
  std::deque<double> last_blocks_;             // seconds
};

// Columns of the terminal behind stderr, 80 if there is none.
int terminal_width();

}  // namespace calque::cli
