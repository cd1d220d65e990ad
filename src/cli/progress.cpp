#include "cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <numeric>
#include <utility>

#include "cli/units.h"

namespace calque::cli {
namespace {

// Enough blocks for an average, few enough to follow changes such as a busy machine.
constexpr std::size_t kBlocksForEta = 8;
constexpr int kBarColumns = 20;

std::string short_role(const record::ModuleReport& module) {
  const std::string& role = module.role.empty() ? module.module : module.role;
  return role.ends_with("_proj") ? role.substr(0, role.size() - 5) : role;
}

std::string module_text(const record::ModuleReport& module) {
  return fmt::format("{} {}b {:.5f}{}", short_role(module), module.grid.bits,
                     module.rounding.relative_error,
                     module.rounding.fallback_reason.empty() ? "" : "!");
}

// Modules of a block that share one entry of a line: same role (of many experts), same width.
struct Alike {
  std::string name;  // "w1 4b"
  int count = 0;
  double errors = 0;  // sum of relative errors
  bool fell_back = false;
};

std::vector<Alike> grouped(const std::vector<record::ModuleReport>& modules) {
  std::vector<Alike> groups;
  for (const record::ModuleReport& module : modules) {
    const std::string name = fmt::format("{} {}b", short_role(module), module.grid.bits);
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const Alike& alike) { return alike.name == name; });
    if (group == groups.end()) group = groups.insert(groups.end(), {name, 0, 0, false});
    ++group->count;
    group->errors += module.rounding.relative_error;
    group->fell_back |= !module.rounding.fallback_reason.empty();
  }
  return groups;
}

std::string group_text(const Alike& group) {
  const std::string times = group.count > 1 ? fmt::format(" x{}", group.count) : "";
  return fmt::format("{}{} {:.5f}{}", group.name, times, group.errors / group.count,
                     group.fell_back ? "!" : "");
}

// "model.layers.6" of "model.layers.6.self_attn.q_proj".
std::string block_name(Index block, const std::vector<record::ModuleReport>& modules) {
  if (modules.empty()) return fmt::format("block {}", block);
  const std::string& module = modules.front().module;
  const std::string number = fmt::format(".{}.", block);
  const std::size_t at = module.find(number);
  return at == std::string::npos ? module : module.substr(0, at + number.size() - 1);
}

double steady_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// The second number of /proc/self/statm, in pages; 0 where there is none.
std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

ProgressMode progress_mode(const std::string& name) {
  if (name == "none") return ProgressMode::kNone;
  if (name == "plain") return ProgressMode::kPlain;
  if (name == "tty") return ProgressMode::kTty;
  return isatty(STDERR_FILENO) == 1 ? ProgressMode::kTty : ProgressMode::kPlain;
}

int terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

std::string block_line(Index block, Index blocks, const std::vector<record::ModuleReport>& modules,
                       double seconds, double eta_seconds) {
  const auto digits = fmt::format("{}", blocks).size();
  std::string line =
      fmt::format("[{:>{}}/{}] {}", block + 1, digits, blocks, block_name(block, modules));
  for (const Alike& group : grouped(modules)) line += "  " + group_text(group);
  line += "  " + duration_text(seconds);
  if (eta_seconds >= 0) line += "  ETA " + duration_text(eta_seconds);
  return line;
}

std::string bar_line(double seconds_gone, double seconds_left, std::uint64_t memory_bytes,
                     const std::string& doing) {
  const double whole = seconds_gone + std::max(0.0, seconds_left);
  const double share = whole > 0 ? std::min(0.99, seconds_gone / whole) : 0;
  const int done = static_cast<int>(share * kBarColumns);
  std::string line = fmt::format("[{:=>{}}>{:.>{}}] {:>3.0f} %", "", done, "",
                                 kBarColumns - 1 - done, std::floor(100 * share));
  if (seconds_left > 0) line += "  ETA " + duration_text(seconds_left);
  return fmt::format("{}  {}  {}", line, bytes_text(memory_bytes), doing);
}

Gauges gauges_of_this_process() { return {steady_seconds, resident_bytes}; }

Progress::Progress(ProgressMode mode, std::ostream& out, int width, Gauges gauges)
    : mode_(mode),
      out_(out),
      width_(width),
      gauges_(std::move(gauges)),
      begin_(gauges_.seconds()) {}

Progress::~Progress() { clear_redrawn(); }

void Progress::phase_started(const std::string& title, Index steps) {
  phase_ = title;
  steps_ = steps;
  quarters_ = 0;
  modules_.clear();
  last_blocks_.clear();
  print(title);
}

void Progress::step(Index done) {
  if (steps_ <= 0) return;
  show(fmt::format("{} {}/{}", phase_, done, steps_));
  const Index quarters = 4 * done / steps_;
  if (quarters == quarters_) return;
  quarters_ = quarters;
  if (mode_ == ProgressMode::kPlain) print(fmt::format("{} {}/{}", phase_, done, steps_));
}

void Progress::module_done(const record::ModuleReport& module) {
  modules_.push_back(module);
  const std::string place = end_ ? block_name(module.block, {module}) : module.module;
  show(fmt::format("{}  {}", place, module_text(module)));
}

void Progress::block_done(Index block, Index blocks, double seconds) {
  last_blocks_.push_back(seconds);
  if (last_blocks_.size() > kBlocksForEta) last_blocks_.pop_front();
  const Index remaining = blocks - block - 1;
  const bool bar_has_it = mode_ == ProgressMode::kTty && end_.has_value();
  const double left = remaining > 0 && !bar_has_it ? eta(remaining) : -1;
  print(block_line(block, blocks, modules_, seconds, left));
  modules_.clear();
  if (end_) show(fmt::format("block {}/{}", block + 1, blocks));
}

void Progress::seconds_left(double seconds) { end_ = gauges_.seconds() + seconds; }

void Progress::note(const std::string& line) { print(line); }

void Progress::warning(const std::string& line) { print("warning: " + line); }

double Progress::eta(Index remaining) const {
  const double sum = std::accumulate(last_blocks_.begin(), last_blocks_.end(), 0.0);
  return sum / static_cast<double>(last_blocks_.size()) * static_cast<double>(remaining);
}

void Progress::print(const std::string& line) {
  if (mode_ == ProgressMode::kNone) return;
  clear_redrawn();
  out_ << printable(line) << std::endl;
}

void Progress::show(const std::string& doing) {
  if (mode_ != ProgressMode::kTty) return;
  if (!end_) return redraw(doing);
  const double now = gauges_.seconds();
  redraw(bar_line(now - begin_, *end_ - now, gauges_.memory_bytes(), doing));
}

void Progress::redraw(const std::string& line) {
  if (mode_ != ProgressMode::kTty) return;
  // A line that wraps could not be redrawn.
  const auto columns = static_cast<std::size_t>(std::max(1, width_ - 1));
  out_ << "\r\x1b[K" << printable(line).substr(0, columns) << std::flush;
  redrawn_ = true;
}

void Progress::clear_redrawn() {
  if (redrawn_) out_ << "\r\x1b[K" << std::flush;
  redrawn_ = false;
}

}  // namespace calque::cli
