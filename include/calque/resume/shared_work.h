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

// Results of one job of a sweep that other jobs need bit for bit: a job that takes them from here
// writes the same artifacts as one that computes them. Tokens and the reference are kept in memory,
// statistics in a folder that other processes and later runs may use. Create one per sweep and pass
// it to one job after another; not thread-safe.
class SharedWork {
 public:
  struct Options {
    std::filesystem::path folder;  // created when something is written
    bool tokens = true;
    bool reference = true;
    bool statistics = true;  // jobs with propagate_error: false only
  };
  // One kind of work that a job took over, with the seconds it took to compute originally.
  struct Taken {
    std::string what;  // "tokens", "reference", "statistics"
    double seconds = 0;
  };

  explicit SharedWork(Options options);
  ~SharedWork();

  // For the jobs ----------------------------------------------------------------------------------
  // Clears the list of work taken over by the previous job.
  void start_job() { taken_.clear(); }
  // The result of `make`, called now or earlier under the same key.
  text::PackedTokens tokens(const std::string& key,
                            const std::function<text::PackedTokens()>& make);
  // Statistics under `key`, complete or still to be filled; null: not shared.
  StatisticsStore* statistics(const std::string& key);
  // Final hidden states of the job's original, in memory; in unnamed files if runtime.max_ram is
  // set. Null: not shared.
  std::shared_ptr<eval::ReferenceStates> reference(const job::Job& job);
  void took(const std::string& what, double seconds);

  // For the sweep ---------------------------------------------------------------------------------
  // Work that the last job took over; each kind at most once.
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

// Inputs other than the job that determine the statistics of a pass.
struct Measurement {
  const model::FamilySpec& family;
  const text::Manifest& calibration;
  const text::TokenBlocks& tokens;
  std::string forward_dtype;  // resolved value of `auto`
  const job::StageDevices& devices;
};

// The store for the statistics of this pass. Null if nothing is shared, or if no other job could
// use them: with propagate_error they depend on the codes.
StatisticsStore* shared_statistics(const job::Job& job, const Measurement& measurement,
                                   SharedWork* shared);

}  // namespace calque::resume
