#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "calque/report/points.h"

namespace calque::report {

// Models of several runs beside one another, smallest first.
struct ComparedModel {
  Point point;
  std::size_t group = 0;  // of similar size: at most kSimilarSize times the smallest of the group
  bool best = false;      // lowest KL divergence (else perplexity) of its group
};

inline constexpr double kSimilarSize = 1.1;

struct Comparison {
  std::vector<ComparedModel> models;
  // Figures compare only if they were measured against the same original on the same tokens. Each
  // sentence says what does not, why, and what does instead.
  std::vector<std::string> warnings;
  bool kl_compares = true;          // same original and same tokens throughout
  bool perplexity_compares = true;  // same tokens throughout, whatever the original
};

// Error(kConfig, "E253") if there is nothing to compare.
Comparison compare(std::vector<Point> points);

}  // namespace calque::report
