#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calque/eval/reference_states.h"
#include "calque/job/job.h"
#include "calque/model/family.h"
#include "calque/resume/statistics_store.h"
#include "calque/text/corpus.h"

namespace calque::resume {

// What one job of a sweep has computed and others need as well, bit for bit: a job that takes it
// from here writes the same artifacts as one that computes it. Kept in memory (tokens, reference)
// and in a folder that other processes and later runs may use, too (statistics). Made once for a
// sweep, given to its jobs one after another; not for several threads.
class SharedWork {
 public:
  struct Options {
    std::filesystem::path folder;  // made when something is written
    bool tokens = true;
    bool reference = true;
    bool statistics = true;  // jobs with propagate_error: false only
  };
  // One kind of work that a job took over, and what it took when it was done first.
  struct Taken {
    std::string what;  // "tokens", "reference", "statistics"
    double seconds = 0;
  };

  explicit SharedWork(Options options);
  ~SharedWork();

  // For the jobs ----------------------------------------------------------------------------------
  // Forgets what the job before took over.
  void start_job() { taken_.clear(); }
  // What `make` returns, now or under the same key before.
  text::PackedTokens tokens(const std::string& key,
                            const std::function<text::PackedTokens()>& make);
  // Statistics under `key`, complete or to be filled; null: not shared.
  StatisticsStore* statistics(const std::string& key);
  // Final hidden states of the job's original, in memory; with runtime.max_ram in unnamed files.
  // Null: not shared.
  std::shared_ptr<eval::ReferenceStates> reference(const job::Job& job);
  void took(const std::string& what, double seconds);

  // For the sweep ---------------------------------------------------------------------------------
  // By the last job; each kind once.
  const std::vector<Taken>& taken() const { return taken_; }

 private:
  struct Tokens {
    text::PackedTokens packed;
    double seconds = 0;
  };
  Options options_;
  std::map<std::string, Tokens> tokens_;
  std::map<std::string, std::unique_ptr<StatisticsStore>> stores_;
  std::map<std::string, std::shared_ptr<eval::ReferenceStates>> references_;
  std::vector<Taken> taken_;
};

// What the statistics of a pass depend on, beside the job.
struct Measurement {
  const model::FamilySpec& family;
  const text::Manifest& calibration;
  const text::TokenBlocks& tokens;
  std::string forward_dtype;  // what `auto` became
  const job::StageDevices& devices;
};

// Where the statistics of this pass are or go; null if nothing is shared, or if no other job could
// use them: with propagate_error they feel the codes.
StatisticsStore* shared_statistics(const job::Job& job, const Measurement& measurement,
                                   SharedWork* shared);

}  // namespace calque::resume
