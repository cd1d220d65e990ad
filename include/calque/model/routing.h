#pragma once

#include <span>
#include <vector>

#include "calque/core/matrix.h"

namespace calque::model {

// An expert that answers a token, and what its answer is multiplied by.
struct RoutedTo {
  Index expert = 0;
  float weight = 0;
};

// From a router's scores, one for each expert, to the experts that answer a token.
//
//   p      = softmax(scores), or the sigmoid of each
//   chosen = the `used` experts with the largest p + bias; of equals the first
//   weight = scale * p, or scale * p / sum of the chosen p
//
// The bias (DeepSeek's and others' correction, learned so that experts are used evenly) counts for
// the choice only. With groups, experts side by side form one, and only those of the best groups
// take part; a group counts by the sum of its two best p + bias. A softmax over the chosen alone is
// kSoftmax with `normalize`: what the other experts add to the denominators cancels.
struct Routing {
  enum class Scores { kSoftmax, kSigmoid };
  Scores scores = Scores::kSoftmax;
  Index used = 0;
  Index groups = 1;
  Index groups_used = 1;
  // Weights are divided by max(sum of p, sum_floor) + sum_extra.
  bool normalize = false;
  double sum_floor = 0;
  double sum_extra = 0;
  double scale = 1;

  // The experts of one token, best first. Overwrites `scores_E`; `bias_E` may be empty. In fp32.
  // Scores that are not numbers are as good as any.
  std::vector<RoutedTo> choose(std::span<float> scores_E, std::span<const float> bias_E) const;

  bool operator==(const Routing&) const = default;
};

}  // namespace calque::model
