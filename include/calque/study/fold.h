#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "calque/study/state.h"

namespace calque::study {

// The replicates of one point, folded into one line.
class Fold {
 public:
  Fold(const PlannedPoint& planned, const Results& results) {
    for (const Run& run : planned.runs) {
      const auto found = results.find(run.hash);
      if (found == results.end())
        ++missing_;
      else if (found->second.done())
        done_.push_back(&found->second);
      else if (!failure_)
        failure_ = &found->second.failure;
    }
  }

  // Every replicate is done.
  bool complete() const { return missing_ == 0 && failure_ == nullptr; }
  const Failure* failure() const { return failure_; }  // the first; null: none
  const std::vector<const RunResult*>& done() const { return done_; }
  const RunResult& first() const { return *done_.front(); }

  // Of the artifact, on the main text; null: not evaluated.
  const TextResult* main_text(std::size_t artifact) const {
    if (done_.empty() || artifact >= first().artifacts.size()) return nullptr;
    const std::vector<TextResult>& texts = first().artifacts[artifact].texts;
    return texts.empty() ? nullptr : &texts.front();
  }

  // Over the replicates that are done; at least one.
  template <typename Get>
  double mean(std::size_t artifact, const Get& get) const {
    double sum = 0;
    for (const RunResult* run : done_) sum += get(*run, run->artifacts.at(artifact));
    return sum / static_cast<double>(done_.size());
  }
  // Of the sample (n - 1); 0 for fewer than two.
  template <typename Get>
  double deviation(std::size_t artifact, const Get& get) const {
    if (done_.size() < 2) return 0;
    const double center = mean(artifact, get);
    double squares = 0;
    for (const RunResult* run : done_)
      squares += std::pow(get(*run, run->artifacts.at(artifact)) - center, 2);
    return std::sqrt(squares / static_cast<double>(done_.size() - 1));
  }

 private:
  std::vector<const RunResult*> done_;
  const Failure* failure_ = nullptr;
  std::size_t missing_ = 0;
};

}  // namespace calque::study
