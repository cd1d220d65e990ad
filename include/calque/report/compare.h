#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "calque/report/points.h"

namespace calque::report {

// A model of a comparison. Models of several runs are listed smallest first.
struct ComparedModel {
  Point point;
  std::size_t group =
      0;  // models of similar size: at most kSimilarSize times the smallest of the group
  bool best = false;  // lowest KL divergence of its group (perplexity if there is none)
};

inline constexpr double kSimilarSize = 1.1;

struct Comparison {
  std::vector<ComparedModel> models;
  // Figures are comparable only if measured against the same original on the same tokens. Each
  // sentence says what is not comparable, why, and what to use instead.
  std::vector<std::string> warnings;
  bool kl_compares = true;          // same original and same tokens in all runs
  bool perplexity_compares = true;  // same tokens in all runs; originals may differ
};

// Error(kConfig, "E253") if there is nothing to compare.
Comparison compare(std::vector<Point> points);

}  // namespace calque::report
